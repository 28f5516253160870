"""Which version answers, which one is better, and when to stop asking (docs/ab-testing.md).

    router = Router(config.routing, seed)
    given = router.assign(["live", "challenger"], outcomes)     # for a new conversation, which stays with it
    verdict(outcomes, "live", "challenger", since=came).decision          # "continue", "promote" or "retire"
    standings([("live", "challenger", 0.5), ...])                         # from duels
    misbehaves([False, True, ...], config.routing)                        # replies of a version, oldest first

Nothing here is kept between calls but the router's random numbers: what the answers depend on is handed in, and lies in
the store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf import bradley_terry, sequential_test
from rlhf.bandits import UCB1, Bandit, EpsilonGreedy, FixedShares, Floats, ThompsonSampling
from rlhf.chat.settings import RoutingSection

Decision = Literal["continue", "promote", "retire"]

NOTICED = 0.1
"""Difference between mean judgements that the test is made to find soonest: one thumb in ten."""
RIDGE = 0.5
"""Of the standing: a normal prior of variance 2 on each strength, in logits."""
NORMAL_95 = 1.959964
RECENT = 5
"""Replies that may show misbehaviour, in units of `fallback_after`."""


@dataclass(frozen=True)
class Outcome:
    """One judgement of one version. What was not judged is no outcome: silence is not a thumb down."""

    version: str
    value: float
    """0 to 1: thumb up 1, down 0; duel won 1, tied 1/2, lost 0."""
    uniform: bool
    """Whether the conversation came to the version by uniform routing (`Assignment.uniform`); true of a duel
    whose two replies were drawn, not picked by what they say."""
    time: float
    """Unix time of the judgement, in seconds."""
    group: str = ""
    """Judgements of one group are not independent of each other: those of one conversation, or the two sides of one
    duel. The first one of a conversation counts, and both sides of a duel. Empty: independent of all others."""
    begun: float = 0.0
    """Unix time when the conversation began, or the duel: not long before its version was chosen."""
    duel: bool = False
    """A duel's scores average 1/2 whatever people like; thumbs have an average of their own. They are kept apart."""


@dataclass(frozen=True)
class Assignment:
    """The version of a new conversation."""

    version: str
    probability: float
    """With which this version would have been chosen, uniform traffic included; exact."""
    uniform: bool
    """Whether this choice was a part of the uniform traffic; all arms are equally likely there."""


class Router:
    """Gives new conversations to versions.

    Args:
        settings: of routing.
        seed: of the choices. Give another at each start, else restarted servers repeat their first choices.
    """

    def __init__(self, settings: RoutingSection, seed: int) -> None:
        self.settings = settings
        self._rng = np.random.default_rng(seed)

    def assign(self, arms: Sequence[str], outcomes: Sequence[Outcome]) -> Assignment:
        """Choose an arm.

        Args:
            arms: versions, the live one first. If it is the only one, there is no choice and no uniform traffic: what
                is judged before there is a challenger is no part of a test.
            outcomes: all judgements, whatever their order; duels, and those of other versions, are left out.

        Raises:
            ValueError: no arm, or one arm twice.
        """
        if not arms or len(set(arms)) < len(arms):
            raise ValueError(f"arms are different versions, at least one: {list(arms)}")
        if len(arms) == 1:
            return Assignment(arms[0], 1.0, uniform=False)
        chances = self.probabilities(arms, outcomes)
        # Any law is a part that is uniform, as large as its smallest chance allows, and a rest. So at least
        # `uniform_share` of the traffic feeds the test, and all of it where the policy itself is uniform.
        floor = chances.min()
        uniform = bool(self._rng.random() < len(arms) * floor)
        weights = np.ones(len(arms)) if uniform else chances - floor
        chosen = int(self._rng.choice(len(arms), p=weights / weights.sum()))
        return Assignment(arms[chosen], float(chances[chosen]), uniform)

    def probabilities(self, arms: Sequence[str], outcomes: Sequence[Outcome]) -> Floats:
        """(K,) chance of each arm now: `uniform_share` of it spread over all, the rest as the policy has it."""
        number = {arm: place for place, arm in enumerate(arms)}
        known = sorted((o for o in outcomes if o.version in number and not o.duel), key=_time)
        bandit = policy(self.settings, len(arms))
        bandit.learn([number[o.version] for o in known], [o.value for o in known])
        share = self.settings.uniform_share
        mixed: Floats = share / len(arms) + (1 - share) * bandit.probabilities()
        return mixed / mixed.sum()


def policy(settings: RoutingSection, arms: int) -> Bandit:
    """The bandit of the settings; the first arm is the live version."""
    if settings.policy == "epsilon_greedy":
        return EpsilonGreedy(arms, settings.epsilon, discount=settings.discount, window=settings.window)
    if settings.policy == "ucb1":
        return UCB1(arms, discount=settings.discount, window=settings.window)
    if settings.policy == "thompson":
        return ThompsonSampling(arms, discount=settings.discount, window=settings.window)
    challenger = settings.challenger_share / max(1, arms - 1)
    return FixedShares([1 - settings.challenger_share, *[challenger] * (arms - 1)])


@dataclass(frozen=True)
class Verdict:
    """What the test says by now."""

    decision: Decision
    """That of the moment when the p-value first reached alpha."""
    p_value: float
    """Anytime valid: the smallest so far; 1 where nothing speaks against equality."""
    difference: float
    """The challenger's mean less the live version's, the imaginary judgements of the test included; 0 while either has
    none. Of thumbs and of duels, each weighted by what it tells (`sequential_test.combined`)."""
    interval: tuple[float, float]
    """Holds the true difference at all times at once, with probability 1 - alpha; so what each look has ruled out stays
    ruled out, and it leaves out 0 where there is a decision."""
    n_live: int
    """What was compared: conversations and duels."""
    n_challenger: int


def verdict(
    outcomes: Sequence[Outcome],
    live: str,
    challenger: str,
    alpha: float = 0.05,
    noticed: float = NOTICED,
    since: float = 0.0,
) -> Verdict:
    """Compare two versions by their judgements in uniform traffic.

    Args:
        outcomes: whatever their order; those of other versions, and those not uniform, are left out.
        alpha: chance of a decision where there is no difference, however often one looks.
        noticed: true difference that the test finds soonest; larger and smaller ones are found, too.
        since: when the challenger came, Unix seconds. Conversations that began before were routed among others, and
            those still going on are a selection, however late they are judged.

    Raises:
        ValueError: a value outside [0, 1].
    """
    moments, totals = sequential_test.cumulative(_units(_compared(outcomes, live, challenger, since), live))
    _, n_live, _, n_challenger = totals[:, -1].sum(axis=0).astype(int).tolist() if totals.size else [0] * 4
    if not (n_live and n_challenger):
        return Verdict("continue", 1.0, 0.0, (-1.0, 1.0), n_live, n_challenger)
    mixing_sd = sequential_test.best_mixing_sd(noticed, alpha)
    differences, variances = sequential_test.combined(
        *sequential_test.difference_and_variance(moments, totals), known=totals[..., 1] + totals[..., 3] > 0
    )
    p_values = sequential_test.anytime_p(sequential_test.log_ratio(differences, variances, mixing_sd))
    decided = p_values <= alpha
    decision: Decision = "continue"
    if decided.any():
        decision = "promote" if differences[decided.argmax()] > 0 else "retire"
    radius = sequential_test.anytime_radius(variances, mixing_sd, alpha)
    lows = np.maximum.accumulate(np.maximum(-1.0, differences - radius))
    highs = np.minimum.accumulate(np.minimum(1.0, differences + radius))
    last = int((lows <= highs).sum()) - 1  # beyond it the difference has changed, and no value is left
    return Verdict(
        decision,
        p_value=float(p_values[-1]),
        difference=float(differences[-1]),
        interval=(float(lows[last]), float(highs[last])),
        n_live=n_live,
        n_challenger=n_challenger,
    )


def _compared(outcomes: Sequence[Outcome], live: str, challenger: str, since: float) -> dict[str | int, list[Outcome]]:
    """What the test looks at, group by group, oldest first; no duels of the two with a third."""
    pair = (live, challenger)
    mixed = {o.group for o in outcomes if o.group and o.version not in pair}
    groups: dict[str | int, list[Outcome]] = {}
    for number, o in enumerate(sorted(outcomes, key=_time)):
        if o.uniform and o.version in pair and o.group not in mixed and o.begun >= since:
            if not 0 <= o.value <= 1:
                raise ValueError(f"a judgement lies in [0, 1], not {o.value}")
            groups.setdefault(o.group or number, []).append(o)
    return groups


def _time(outcome: Outcome) -> float:
    return outcome.time


def _units(groups: Mapping[str | int, Sequence[Outcome]], live: str) -> Floats:
    """(2, U, 4) thumbs and duels: value and 1 for the live version, and for the challenger; 0 and 0 for what it lacks.

    Of a conversation the first thumb alone. With all of them its unit would change after it was counted, and the test's
    past with it.
    """
    units: Floats = np.zeros((2, len(groups), 4))
    for place, members in enumerate(groups.values()):
        for o in members if members[0].duel else members[:1]:
            arm = 0 if o.version == live else 2
            units[int(o.duel), place, arm : arm + 2] = o.value, 1
    return units


@dataclass(frozen=True)
class Standing:
    """The place of one version among those that duelled."""

    version: str
    strength: float
    """In logits; the mean over the versions is 0, and 1 more than another wins 73% of the duels with it."""
    low: float
    """Ends of the 95% bootstrap interval."""
    high: float
    n: int
    """Duels that it fought."""


def standings(
    duels: Sequence[tuple[str, str, float]], ridge: float = RIDGE, resamples: int = 1000, seed: int = 0
) -> list[Standing]:
    """Strengths of all versions that duelled, the strongest first.

    The order of the duels, and which side a version stood on, do not matter. The interval reaches 1.96
    bootstrap standard deviations to both sides: of the bootstrap intervals tried this one held the true strength most
    nearly as often as it should (docs/results/ab.md). It takes duels as independent; many duels of one person are not,
    and it is too narrow then.

    Args:
        duels: the version on the left, that on the right, and the left one's score: 1, 1/2 or 0.
        ridge: precision of the normal prior on each strength.
        resamples: bootstrap sets.

    Raises:
        ValueError: another score, or a version against itself.
    """
    for left, right, score in duels:
        if score not in (0, 0.5, 1) or left == right:
            raise ValueError(f"not a duel: {left} against {right}, {score}")
    names = sorted({name for left, right, _ in duels for name in (left, right)})
    if not names:
        return []
    number = {name: place for place, name in enumerate(names)}
    counts = bradley_terry.counted([(number[left], number[right], score) for left, right, score in duels], len(names))
    strengths = bradley_terry.fit(bradley_terry.wins_of(counts, len(names)), ridge)
    rng = np.random.default_rng(seed)
    reach = NORMAL_95 * bradley_terry.resampled(counts, len(names), ridge, resamples, rng).std(axis=0)
    fought = {name: sum(name in duel[:2] for duel in duels) for name in names}
    found = [
        Standing(name, float(strength), float(strength - far), float(strength + far), fought[name])
        for name, strength, far in zip(names, strengths, reach, strict=True)
    ]
    return sorted(found, key=lambda standing: -standing.strength)


def misbehaves(bad: Sequence[bool], settings: RoutingSection) -> bool:
    """Whether a version's replies call for the fallback: more than `fallback_rate` of the recent ones were bad.

    Recent are the last five times `fallback_after`. All replies so far would hide a version that breaks late; the last
    `fallback_after` alone would sooner or later condemn one that is merely unlucky.

    Args:
        bad: whether each reply of the version ended in an error, a timeout or a block as unsafe, oldest first.
    """
    recent = bad[-RECENT * settings.fallback_after :]
    return len(bad) >= settings.fallback_after and sum(recent) > settings.fallback_rate * len(recent)
