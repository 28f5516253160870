"""What an agent sees of a conversation: its token ids, or the language model's last hidden state after them."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from gymnasium import spaces

from rlhf.envs.reader import Reader
from rlhf.envs.talk import Talk
from rlhf.envs.world import World

View = Literal["ids", "features"]


class Observer(Protocol):
    """Sees all conversations at once."""

    space: spaces.Space[Any]

    def __call__(self, talks: Sequence[Talk]) -> list[Any]:
        """One observation a conversation, each in `space`."""
        ...


class Ids:
    """The state itself: the tokens so far, the pad behind them, and how many there are.

    Stable-Baselines3 takes it with `MultiInputPolicy`, as numbers: that a token's number says nothing of its meaning
    makes this hard to learn from. It is for policies that embed tokens.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.space: spaces.Space[Any] = spaces.Dict(
            ids=spaces.Box(0, world.vocabulary - 1, (world.context,), np.int64),
            length=spaces.Box(0, world.context, (1,), np.int64),
        )

    def __call__(self, talks: Sequence[Talk]) -> list[Any]:
        return [self._one(talk.ids) for talk in talks]

    def _one(self, ids: list[int]) -> dict[str, Any]:
        padded = np.full(self.world.context, self.world.tokenizer.pad_token_id, dtype=np.int64)
        padded[: len(ids)] = ids
        return {"ids": padded, "length": np.array([len(ids)], dtype=np.int64)}


class Features:
    """What the language model makes of the tokens so far: (D,), the state that its head turns into logits.

    For `MlpPolicy`. A linear policy on it can be the language model itself: π(token | state) = softmax(W · state).
    """

    def __init__(self, width: int, reader: Reader) -> None:
        self.reader = reader
        self.space: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, (width,), np.float32)

    def __call__(self, talks: Sequence[Talk]) -> list[Any]:
        return list(self.reader([talk.ids for talk in talks]).numpy().astype(np.float32))
