"""Replies of `lab.chat` to held-out questions, what they are worth, and what may be concluded from that.

found = measured(both, start, training.agent)      # replies before and after PPO, and two that need no learning
found.means()                                      # {"before": 0.71, "after": 0.74, "constant": 0.42, "echo": 0.37}
found.gain("before")                               # 95% interval of after less before, facts resampled
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lab.chat_words import FREQUENT, best_constant, shared_words
from lab.chat_worlds import Questions, Worlds, fact
from lab.runs import Acts
from rlhf.data.classroom import pool
from rlhf.data.classroom.judge import right
from rlhf.env import ChatVectorEnvironment, World
from rlhf.evaluation.statistics import Interval, cluster_bootstrap_ci
from rlhf.records import Prompt

SIDE_BY_SIDE = 128
"""Conversations at a time when replies are collected."""
Who = Literal["before", "after", "constant", "echo"]
NAMES: dict[Who, str] = {
    "before": "before: the language model",
    "after": "after PPO",
    "constant": f"best reply to everything out of the {FREQUENT} commonest words",
    "echo": "the question itself",
}
"""Whose replies."""


class Reply(NamedTuple):
    """To a held-out question."""

    text: str
    reward: float
    right: bool
    """Whether it has the right answer, in whatever form (`rlhf.data.classroom.judge.right`)."""


@dataclass(frozen=True)
class Outcome:
    """Replies to N held-out questions, each once, in their order; of a policy, the likeliest token each time."""

    facts: list[str]
    """(N) What each question is about. Questions about the same fact are rewordings of each other."""
    replies: dict[Who, list[Reply]]
    """(N) each. "before" is the language model that PPO starts from."""

    def rewards(self, who: Who) -> NDArray:
        """(N,)"""
        return np.array([reply.reward for reply in self.replies[who]])

    def means(self) -> dict[Who, float]:
        """Mean reward of everybody's replies."""
        return {who: float(self.rewards(who).mean()) for who in self.replies}

    def right(self) -> dict[Who, float]:
        """Share of replies with the right answer."""
        return {who: float(np.mean([reply.right for reply in replies])) for who, replies in self.replies.items()}

    def distinct(self) -> dict[Who, float]:
        """Share of the replies that are left when each text is counted once."""
        return {who: len({one.text for one in replies}) / len(replies) for who, replies in self.replies.items()}

    def gain(self, over: Who) -> Interval:
        """95% interval of the mean reward after PPO less another's; what is resampled are facts, not questions."""
        return self._interval(self.rewards("after") - self.rewards(over))

    def right_gain(self) -> Interval:
        """95% interval of the share of right answers after PPO less that before, by facts too."""
        right = {who: np.array([one.right for one in replies], float) for who, replies in self.replies.items()}
        return self._interval(right["after"] - right["before"])

    def _interval(self, differences: NDArray) -> Interval:
        found = cluster_bootstrap_ci(differences, self.facts)
        assert found is not None, "questions about two facts or more, as `lab.chat_worlds.questions` asks for"
        return found


def measured(both: Worlds, before: Acts, after: Acts) -> Outcome:
    """What two policies reply to the held-out questions, beside what needs no learning."""
    asked = Questions(list(both.training.prompts), list(both.held_out.prompts))
    texts = unlearned(asked)
    texts["before"], texts["after"] = replies(both.held_out, before), replies(both.held_out, after)
    return Outcome([fact(prompt) for prompt in asked.held_out],
                   {who: worth(asked.held_out, said) for who, said in texts.items()})  # fmt: skip


def unlearned(asked: Questions) -> dict[Who, list[str]]:
    """The same reply to every question, the best for the training questions; and each question as its own reply.

    The limit of tokens does not hold for them.
    """
    constant = best_constant([prompt.reference or "" for prompt in asked.training])
    return {"constant": [constant] * len(asked.held_out),
            "echo": [prompt.prompt[-1].content for prompt in asked.held_out]}  # fmt: skip


def replies(world: World, agent: Acts, side_by_side: int = SIDE_BY_SIDE) -> list[str]:
    """To each question of a world, once; without chance."""
    many = min(side_by_side, len(world.prompts))
    environments = ChatVectorEnvironment(many, "token", "features", world=world)
    environments.reset(seed=0)
    texts: list[str] = []
    for first in tqdm(range(0, len(world.prompts), many), "replies", leave=False):
        texts += _replied(environments, agent, range(first, min(first + many, len(world.prompts))))
    return texts


def _replied(environments: ChatVectorEnvironment, agent: Acts, numbers: range) -> list[str]:
    """To questions by their numbers, one in each environment; what the other environments do is not looked at."""
    for slot, number in enumerate(numbers):
        chosen = np.arange(environments.num_envs) == slot
        observations, _ = environments.reset(options={"reset_mask": chosen, "prompt": number})
    found: dict[int, str] = {}
    while len(found) < len(numbers):
        observations, _, over, _, info = environments.step(agent.best(observations))
        for slot in np.flatnonzero(over[: len(numbers)]).tolist():
            found.setdefault(slot, info["reply"][slot])  # the first: afterwards another conversation begins there
    return [found[slot] for slot in range(len(numbers))]


def worth(asked: Sequence[Prompt], texts: Sequence[str]) -> list[Reply]:
    """What texts are worth as replies to questions of the corpus, one each."""
    rewards = shared_words(list(texts), [prompt.reference or "" for prompt in asked])
    keys = {row.id: row.draft.key for row in pool.examples()}
    return [Reply(text, reward, right(keys[prompt.id], text))
            for prompt, text, reward in zip(asked, texts, rewards, strict=True)]  # fmt: skip


def examples(asked: Sequence[Prompt], outcome: Outcome, count: int = 8) -> list[dict[str, Any]]:
    """The first held-out questions, and what was replied."""
    rows = zip(asked[:count], outcome.replies["before"], outcome.replies["after"], strict=False)
    return [{"question": prompt.prompt[-1].content, "reference": prompt.reference, "before": before._asdict(),
             "after": after._asdict()} for prompt, before, after in rows]  # fmt: skip
