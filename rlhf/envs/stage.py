"""Many conversations, begun and stepped together: what the single environment and the vectorised one are made of."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from rlhf.envs.actions import Kind, ParametersKind, ReplyKind, TokenKind, valid
from rlhf.envs.observing import Features, Ids, Observer, View
from rlhf.envs.reader import Reader
from rlhf.envs.talk import Spoken, Talk
from rlhf.envs.world import World
from rlhf.errors import UserError
from rlhf.logprobs import causal_lm

Action = Literal["token", "reply", "parameters"]


class Step(NamedTuple):
    """What came of an action."""

    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class Stage:
    """N conversations.

    Args:
        world: what they are made of.
        action: what an action is.
        observation: what an agent sees.
        slots: N.

    Raises:
        UserError: no such action or observation, or a model is needed and the world has none.
    """

    def __init__(self, world: World, action: Action, observation: View, slots: int) -> None:
        _refuse_unknown("action", action, get_args(Action))
        _refuse_unknown("observation", observation, get_args(View))
        self.world = world
        self.talks: dict[int, Talk] = {}
        reader = self._reader(slots) if observation == "features" or action == "parameters" else None
        self.kind: Kind
        if action == "parameters" and reader:
            self.kind = ParametersKind(world, reader)
        else:
            self.kind = TokenKind(world) if action == "token" else ReplyKind(world)
        self.observer: Observer = Ids(world)
        if observation == "features" and reader:
            width = causal_lm(world.model).get_output_embeddings().weight.shape[1]
            self.observer = Features(width, reader)

    def _reader(self, slots: int) -> Reader:
        if self.world.model is None:
            raise UserError(
                "The environment needs a language model: to write the replies, or for observation='features'.",
                remedy="give run=… or model=…",
            )
        return Reader(self.world.model, self.world.tokenizer.pad_token_id, slots, self.world.context)

    def begin(self, slot: int, luck: np.random.Generator, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Begin a new conversation; its info.

        Args:
            slot: where.
            luck: draws the prompt.
            options: {"prompt": its number in `world.prompts`} chooses it instead.

        Raises:
            UserError: no such prompt, or another option.
        """
        _refuse_other_options(options or {})
        number = (options or {}).get("prompt")
        if number is None:
            number = luck.integers(len(self.world.prompts))
        else:
            self._refuse_other_prompts(number)
        talk = self.talks[slot] = Talk(self.world, int(number))
        return {"prompt": talk.prompt.id} | self._mask(talk)

    def _refuse_other_prompts(self, number: Any) -> None:
        count = len(self.world.prompts)
        whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
        if not whole or not 0 <= number < count:
            raise UserError("There is no such prompt.", expected=f"a number from 0 to {count - 1}", found=repr(number))

    def step(self, slots: Sequence[int], actions: Sequence[Any], luck: Sequence[np.random.Generator]) -> list[Step]:
        """Take an action in each of some conversations, all together.

        What fails on the way ends all N of them: some may have gone on, and what their replies are worth is not known.

        Args:
            slots: n of them.
            actions: n of them.
            luck: random numbers, of each.

        Raises:
            UserError: an action that is not in the space (nothing has happened then), or a reward function failed.
        """
        actions = [valid(self.kind.space, action) for action in actions]
        try:
            return self._go_on(slots, actions, luck)
        except BaseException:
            self.talks.clear()
            raise

    def _go_on(self, slots: Sequence[int], actions: list[Any], luck: Sequence[np.random.Generator]) -> list[Step]:
        said: dict[int, Spoken] = {}
        for slot, tokens in zip(slots, self.kind.tokens(actions, self._all(), slots, luck), strict=True):
            spoken = self.talks[slot].say(tokens, self.kind.whole)
            if spoken:
                said[slot] = spoken
        worth = self._worth(said)
        return [self._step(slot, worth.get(slot, (0.0, {}))) for slot in slots]

    def observe(self) -> list[Any]:
        """What is to be seen of each of the N conversations, which have all begun."""
        return self.observer(self._all())

    def _all(self) -> list[Talk]:
        return [self.talks[slot] for slot in range(len(self.talks))]

    def _worth(self, said: dict[int, Spoken]) -> dict[int, tuple[float, dict[str, Any]]]:
        """slot → the reward of its reply and what there is to know of it; all replies are scored in one call."""
        if not said:
            return {}
        some = list(said.values())
        totals, parts = self.world.score(
            [one.prompt for one in some], [one.prompt_ids for one in some], [one.reply_ids for one in some]
        )
        found = {}
        for (slot, one), total, part in zip(said.items(), totals, parts, strict=True):
            reward = total - (0.0 if one.ended else self.world.missing_eos_penalty)
            found[slot] = reward, {"reply": one.text, "ended": one.ended, "rewards": part}
        return found

    def _step(self, slot: int, worth: tuple[float, dict[str, Any]]) -> Step:
        talk = self.talks[slot]
        return Step(worth[0], talk.terminated, talk.truncated, worth[1] | self._mask(talk))

    def _mask(self, talk: Talk) -> dict[str, Any]:
        mask = self.kind.mask(talk)
        return {} if mask is None else {"action_mask": mask}


def _refuse_unknown(name: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise UserError(f"There is no {name}={given!r}.", expected=f"one of {', '.join(known)}", found=repr(given))


def _refuse_other_options(options: dict[str, Any]) -> None:
    """A misspelt one would begin with any prompt, and nobody would notice."""
    others = [name for name in options if name != "prompt"]
    if others:
        raise UserError("reset knows no such options.", expected="prompt, or, of a vectorised environment, reset_mask",
                        found=", ".join(map(repr, others)))  # fmt: skip
