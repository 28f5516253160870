"""What an action is: the next token, a whole reply, or how the model shall reply. A reply has at most R tokens.

| kind | space | means |
| --- | --- | --- |
| token | Discrete(V) | the next token |
| reply | MultiDiscrete([V] * R) | the tokens of the reply, up to its end of sequence |
| parameters | Box(-1, 1, (3,)) | temperature, top-p and length with which the model of the run writes the reply |
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from rlhf.chat.inference.batch import choose
from rlhf.envs.reader import Reader
from rlhf.envs.talk import Talk, only
from rlhf.envs.world import World
from rlhf.errors import UserError
from rlhf.logprobs import causal_lm


class Kind(Protocol):
    """What an environment knows of its actions."""

    space: spaces.Space[Any]
    whole: bool
    """Whether an action is a whole reply."""

    def mask(self, talk: Talk) -> NDArray[np.bool_] | None:
        """True where an action is allowed, as sb3-contrib wants it; None where nothing is masked."""
        ...

    def tokens(
        self, actions: Sequence[Any], talks: Sequence[Talk], slots: Sequence[int], luck: Sequence[np.random.Generator]
    ) -> list[list[int]]:
        """The tokens that each of n actions, which are in `space`, adds to its conversation.

        Args:
            actions: n of them.
            talks: of all slots.
            slots: of the n conversations.
            luck: the random numbers of each of the n.
        """
        ...


class TokenKind:
    """The next token."""

    whole = False

    def __init__(self, world: World) -> None:
        self.space: spaces.Space[Any] = spaces.Discrete(world.vocabulary)

    def mask(self, talk: Talk) -> NDArray[np.bool_]:
        """(V,)"""
        return talk.mask()

    def tokens(self, actions: Sequence[Any], talks: Any, slots: Any, luck: Any) -> list[list[int]]:
        return [[int(action)] for action in actions]


class ReplyKind:
    """All tokens of a reply; those behind its end of sequence are not looked at."""

    whole = True

    def __init__(self, world: World) -> None:
        self.world = world
        self.space: spaces.Space[Any] = spaces.MultiDiscrete([world.vocabulary] * world.max_reply_tokens)

    def mask(self, talk: Talk) -> NDArray[np.bool_]:
        """(R · V,), place by place: what a reply may have, and behind the last place that there is room for, where
        nothing is looked at, the end of sequence alone.
        """
        last = only(self.world.tokenizer.eos_token_id, self.world.vocabulary)
        places = range(self.world.max_reply_tokens)
        free = 0 if talk.over else talk.room
        return np.concatenate([self.world.sayable if place < free else last for place in places])

    def tokens(self, actions: Sequence[Any], talks: Any, slots: Any, luck: Any) -> list[list[int]]:
        return [[int(token) for token in action] for action in actions]


class Parameters(NamedTuple):
    """How the language model writes a reply."""

    temperature: float
    """0 to 2; 0 takes the likeliest token each time."""
    top_p: float
    """0.05 to 1: the likeliest tokens that together have this probability."""
    max_tokens: int
    """1 to R."""


class ParametersKind:
    """How the language model of the world shall write the reply: each number from -1 to 1 stands for a range."""

    LEAST_TOP_P = 0.05
    whole = True

    def __init__(self, world: World, reader: Reader) -> None:
        self.world, self.reader = world, reader
        self.space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (3,), np.float32)

    def mask(self, talk: Talk) -> None:
        return None

    def parameters(self, action: NDArray[np.float32]) -> Parameters:
        """What an action stands for: -1 the least, 1 the most, linear in between."""
        temperature, top_p, length = (np.asarray(action, dtype=float) + 1) / 2
        most = self.world.max_reply_tokens
        return Parameters(
            2 * float(temperature),
            self.LEAST_TOP_P + (1 - self.LEAST_TOP_P) * float(top_p),
            1 + round((most - 1) * float(length)),
        )

    def tokens(
        self, actions: Sequence[Any], talks: Sequence[Talk], slots: Sequence[int], luck: Sequence[np.random.Generator]
    ) -> list[list[int]]:
        """Replies of the language model, all written together: a pass through the network adds a token to each."""
        wanted = [self.parameters(action) for action in actions]
        drawn = [torch.from_numpy(own.random(self.world.max_reply_tokens)) for own in luck]
        conversations = [list(talk.ids) for talk in talks]
        replies: list[list[int]] = [[] for _ in actions]
        going = list(range(len(actions)))
        while going:
            states = self.reader(conversations)[[slots[row] for row in going]]
            here = torch.stack([drawn[row][len(replies[row])] for row in going])
            for row, token in zip(going, self._next(states, [wanted[row] for row in going], here), strict=True):
                replies[row].append(token)
                conversations[slots[row]].append(token)
            eos = self.world.tokenizer.eos_token_id
            most = {row: min(wanted[row].max_tokens, talks[slots[row]].room) for row in going}
            going = [row for row in going if replies[row][-1] != eos and len(replies[row]) < most[row]]
        return replies

    @torch.no_grad()
    def _next(self, states: torch.Tensor, wanted: list[Parameters], luck: torch.Tensor) -> list[int]:
        """A token for each state (n, D)."""
        head = causal_lm(self.world.model).get_output_embeddings()
        logits = head(states.to(self.reader.device, head.weight.dtype)).float().cpu()[:, : self.world.vocabulary]
        logits[:, ~torch.from_numpy(self.world.sayable)] = torch.finfo(torch.float32).min / 2
        if not bool(logits.isfinite().all()):
            raise UserError("The language model gives no numbers.", expected="finite logits", found="infinite ones",
                            remedy="take another model")  # fmt: skip
        temperature = torch.tensor([one.temperature for one in wanted])
        top_p = torch.tensor([one.top_p for one in wanted])
        return [int(token) for token in choose(logits, temperature, top_p, luck)]


def valid(space: spaces.Space[Any], action: Any) -> Any:
    """The action as its space has it. Raises `UserError` where it is not in the space."""
    if isinstance(space, spaces.Box):
        try:
            action = np.asarray(action, dtype=space.dtype)
        except (TypeError, ValueError):
            pass  # refused below
    if not space.contains(action):
        raise UserError("The action is not in the action space.", expected=str(space), found=repr(action))
    return action
