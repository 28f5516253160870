"""The configuration of rewards: `ppo.rewards` is a list of these, and so are the parts of a composite.

ppo:
  rewards:
    - model                                                  # a bare name stands for {reward: model}
    - {reward: length, words: [5, 60], weight: 0.5}
    - {reward: my_rewards.polite, args: {word: please}}      # a Python function by its dotted path

What each of them measures: docs/rewards.md.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, TypeAdapter, model_validator

from rlhf.errors import nearest
from rlhf.section import Section


class RewardSpec(Section):
    """One reward. With `reward: model`, the learned reward model, which has no settings but these."""

    reward: str
    """Which one: model, classifier, relevance, coherence, length, distinct, quality, composite, or the dotted path of a
    Python function or class."""
    weight: float = Field(default=1.0, allow_inf_nan=False)
    """Factor in the sum of rewards, 0 to log it only; within a composite, the share, never negative."""
    name: str = Field(default="", pattern=r"^[\w.-]+$")
    """Name in the log; default: `reward`, of a dotted path its last part."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        reward = values.get("reward") if isinstance(values, dict) else None
        return {"name": reward.rpartition(".")[2], **values} if isinstance(reward, str) else values


class TextSpec(RewardSpec):
    """A reward that reads text."""

    normalise: bool = False
    """Shift and scale it to mean 0 and standard deviation 1 on held-out demonstrations, as the reward model is."""


class ClassifierSpec(TextSpec):
    """Any sequence classifier, with its own tokenizer."""

    path: str
    """Hub name or local folder of model and tokenizer."""
    label: str | int | None = None
    """Name or number of the label that is the reward; needed where there are several."""
    probability: bool = False
    """Give the label's probability, 0 to 1, and not its log (of a single label: its logit)."""
    normalise: bool = True
    """As for other rewards, but on by default: a logit has no scale of its own."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Longer texts lose their beginning; default: as many as the classifier takes."""
    batch_size: int = Field(default=32, gt=0)
    """Texts at a time."""


class RelevanceSpec(TextSpec):
    """Cosine of the sentence embeddings of prompt and reply, -1 to 1."""

    path: str
    """Hub name or local folder of a sentence-transformers model."""


class CoherenceSpec(TextSpec):
    """Mean cosine of each two neighbouring sentences of a reply."""

    path: str | None = None
    """Hub name or local folder of a sentence-transformers model; without one, sentences are their counts of words."""


class LengthSpec(TextSpec):
    """1 within a band of words, less the further a reply is outside it."""

    words: tuple[int, int]
    """The band: fewest and most words, both of them within it."""

    @model_validator(mode="after")
    def _is_a_band(self) -> Self:
        if not 1 <= self.words[0] <= self.words[1]:
            raise ValueError(f"the reward length needs words: [fewest, most], at least 1, not {list(self.words)}")
        return self


class DistinctSpec(TextSpec):
    """Share of a reply's n-grams that are distinct, 0 to 1."""

    n: int = Field(default=1, gt=0)
    """Words in an n-gram; 1: the share of distinct words."""


class QualitySpec(TextSpec):
    """The rating that people would give, 0 to 1, learned from ratings by ridge regression."""

    path: str
    """JSON lines of rated replies: prompt, completion and quality (0 to 1), or chats with a quality."""
    embedder: str | None = None
    """Hub name or folder of a sentence-transformers model whose embeddings the regression reads; without one, it reads
    five properties of the text."""
    ridge: float = Field(default=1.0, gt=0)
    """Penalty λ on the squared weights, which are those of standardised features."""


class FunctionSpec(TextSpec):
    """A Python function by its dotted path, or a class, which is made once and whose instance is called."""

    args: dict[str, Any] = {}
    """Keyword arguments: of a function, for every call; of a class, for making the instance."""
    conversational: bool = False
    """Hand over prompts and completions as lists of messages, as TRL does for conversations, and not as strings."""


class CompositeSpec(TextSpec):
    """The mean of several rewards by their weights."""

    parts: "RewardList" = Field(min_length=1)
    """Its rewards; each has its line in the log, as NAME/PART."""

    @model_validator(mode="after")
    def _has_shares(self) -> Self:
        check_names(self.parts)
        weights = [part.weight for part in self.parts]
        if min(weights) < 0 or max(weights) == 0:
            raise ValueError(f"the parts of the reward {self.name!r} need weights of 0 or more, not all of them 0")
        return self


KINDS: dict[str, type[RewardSpec]] = {
    "model": RewardSpec, "classifier": ClassifierSpec, "relevance": RelevanceSpec, "coherence": CoherenceSpec,
    "length": LengthSpec, "distinct": DistinctSpec, "quality": QualitySpec, "composite": CompositeSpec,
}  # fmt: skip
"""Name of a reward → its settings. A name with a dot in it is the path of a function."""


def _as_spec(value: Any) -> Any:
    """The settings of the kind that `reward` names."""
    given = {"reward": value} if isinstance(value, str) else value
    if isinstance(given, RewardSpec) or not isinstance(given, dict):
        return given
    name = given.get("reward")
    if not isinstance(name, str):
        raise ValueError(f"a reward needs the key reward: one of {', '.join(KINDS)}, or the path of a function")
    kind = FunctionSpec if "." in name else KINDS.get(name)
    if kind is None:
        raise ValueError(
            f"unknown reward {name!r}; {nearest(name, KINDS)} (a function of your own needs its module, too: "
            f"my_rewards.{name})"
        )
    for key in given.keys() - kind.model_fields.keys():
        raise ValueError(f"unknown key {key} of the reward {name}; {nearest(key, kind.model_fields)}")
    return kind.model_validate(given)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


RewardList = Annotated[
    list[Annotated[SerializeAsAny[RewardSpec], BeforeValidator(_as_spec)]], BeforeValidator(_as_list)
]
"""A list of rewards as people write it: bare names among them, and a single one without a list."""

CompositeSpec.model_rebuild()
rewards_adapter: TypeAdapter[list[RewardSpec]] = TypeAdapter(RewardList)


def check_names(rewards: Sequence[RewardSpec]) -> None:
    """Refuse two rewards of one name, whose lines in the log could not be told apart. Raises ValueError."""
    names = [spec.name for spec in rewards]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two rewards are called {name!r}: give one of them another name:")


def every(rewards: Sequence[RewardSpec]) -> Iterator[RewardSpec]:
    """All rewards, those within composites, too."""
    for spec in rewards:
        yield spec
        if isinstance(spec, CompositeSpec):
            yield from every(spec.parts)


def uses_model(rewards: Sequence[RewardSpec]) -> bool:
    """Whether the learned reward model is among them."""
    return any(spec.reward == "model" for spec in every(rewards))
