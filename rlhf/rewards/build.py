"""From the configuration of rewards to the functions, and the checks that can be made before anything is trained.

check_rewards(config.ppo.rewards)
rewards = build_rewards(config.ppo.rewards, Workshop(device))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from rlhf.errors import UserError
from rlhf.hub import reachable_or_cached
from rlhf.normalisation import Normalisation
from rlhf.rewards import specs
from rlhf.rewards.classifier import Classifier
from rlhf.rewards.core import Columns, Composite, Reward, RewardFunction, Rewards
from rlhf.rewards.embeddings import Embedder, Relevance, require_library
from rlhf.rewards.function import FunctionReward, refuse_missing, resolve
from rlhf.rewards.quality import Quality, embedding_features, read_ratings, text_features
from rlhf.rewards.text import Coherence, Distinct, Length
from rlhf.rewards.tokens import GIVEN, LEARNED, learned


@dataclass
class Workshop:
    """What rewards are made with."""

    device: torch.device
    """Where classifiers and embedders compute."""
    dtype: torch.dtype = torch.float32
    """Of a classifier's weights."""
    calibration: Callable[[], Columns] | None = None
    """Held-out demonstrations as arguments of a reward function: what `normalise` measures on."""
    embedders: dict[str, Embedder] = field(default_factory=dict)
    """Those made so far: rewards with one path share one."""

    def embedder(self, path: str) -> Embedder:
        """The sentence-transformers model of this path, loaded once."""
        if path not in self.embedders:
            self.embedders[path] = Embedder(path, self.device)
        return self.embedders[path]


def build_rewards(rewards: Sequence[specs.RewardSpec], workshop: Workshop) -> Rewards:
    """The configured rewards. Raises `UserError` where one cannot be made, or has no spread to be normalised by."""
    return Rewards([_reward(spec, workshop) for spec in rewards])


def _reward(spec: specs.RewardSpec, workshop: Workshop) -> Reward:
    function = _MAKERS[type(spec)](spec, workshop)
    made = Reward(spec.name, function, spec.weight)
    return replace(made, normalisation=_unit(spec, made, workshop)) if isinstance(spec, specs.TextSpec) else made


def _unit(text: specs.TextSpec, reward: Reward, workshop: Workshop) -> Normalisation:
    """Shift and scale of a reward, where it is to have any."""
    if not text.normalise:
        return Normalisation()
    if workshop.calibration is None:
        raise UserError(
            f"The reward {reward.name} cannot be normalised: there are no held-out demonstrations.",
            remedy="set normalise: false",
        )
    values = reward.scores(workshop.calibration())[0]
    values = values[values.isfinite()]
    if len(values) < 2 or values.std() < 1e-6:
        raise UserError(
            f"The reward {reward.name} cannot be normalised.",
            expected="values that differ on the held-out demonstrations",
            found=f"{len(values)} finite values, {len(values.unique())} of them different",
            remedy="set normalise: false",
        )
    return Normalisation.of(values)


def _model(spec: specs.RewardSpec, workshop: Workshop) -> RewardFunction:
    return learned


def _classifier(classifier: specs.ClassifierSpec, workshop: Workshop) -> RewardFunction:
    return Classifier(
        classifier.path, classifier.label, classifier.probability, classifier.max_tokens, classifier.batch_size,
        workshop.device, workshop.dtype,
    )  # fmt: skip


def _relevance(relevance: specs.RelevanceSpec, workshop: Workshop) -> RewardFunction:
    return Relevance(workshop.embedder(relevance.path))


def _coherence(coherence: specs.CoherenceSpec, workshop: Workshop) -> RewardFunction:
    return Coherence(workshop.embedder(coherence.path) if coherence.path else None)


def _length(length: specs.LengthSpec, workshop: Workshop) -> RewardFunction:
    return Length(*length.words)


def _distinct(distinct: specs.DistinctSpec, workshop: Workshop) -> RewardFunction:
    return Distinct(distinct.n)


def _quality(quality: specs.QualitySpec, workshop: Workshop) -> RewardFunction:
    rated = read_ratings(quality.path)
    features = embedding_features(workshop.embedder(quality.embedder)) if quality.embedder else text_features
    made = Quality(rated, features, quality.ridge)
    print(f"reward {quality.name}: {len(rated):,} ratings; each left out, {made.r2:.0%} of their variance is predicted")
    return made


def _function(function: specs.FunctionSpec, workshop: Workshop) -> RewardFunction:
    return FunctionReward(function.reward, function.args, function.conversational)


def _composite(composite: specs.CompositeSpec, workshop: Workshop) -> RewardFunction:
    return Composite([_reward(part, workshop) for part in composite.parts])


_MAKERS: dict[type[specs.RewardSpec], Callable[[Any, Workshop], RewardFunction]] = {
    specs.RewardSpec: _model,
    specs.ClassifierSpec: _classifier,
    specs.RelevanceSpec: _relevance,
    specs.CoherenceSpec: _coherence,
    specs.LengthSpec: _length,
    specs.DistinctSpec: _distinct,
    specs.QualitySpec: _quality,
    specs.FunctionSpec: _function,
    specs.CompositeSpec: _composite,
}


def check_rewards(rewards: Sequence[specs.RewardSpec]) -> None:
    """Refuse what is not there: functions, columns that they need, models, packages, ratings. Loads no model.

    Raises:
        UserError: what was looked for, and what to do.
    """
    given = {*GIVEN, LEARNED} if specs.uses_model(rewards) else {*GIVEN}
    for spec in specs.every(rewards):
        if isinstance(spec, specs.FunctionSpec):
            _check_function(spec, given)
        elif isinstance(spec, specs.ClassifierSpec):
            reachable_or_cached(spec.path, "classifier")
        elif isinstance(spec, specs.QualitySpec):
            read_ratings(spec.path)
            _check_embedder(spec.embedder)
        elif isinstance(spec, specs.RelevanceSpec | specs.CoherenceSpec):
            _check_embedder(spec.path)


def _check_embedder(path: str | None) -> None:
    if path:
        require_library()
        reachable_or_cached(path, "embedder")


def _check_function(function: specs.FunctionSpec, given: set[str]) -> None:
    found = resolve(function.reward)
    if not isinstance(found, type):  # a class may load a model when it is made
        FunctionReward(function.reward, function.args, function.conversational)
        refuse_missing(found, function.reward, given | {*function.args})
