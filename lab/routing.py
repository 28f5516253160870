"""What routing loses: the bandits that send chats to versions, on thumbs up and down, with the settings they route by.

    played = route(PROBLEMS, steps=5000, runs=2000, seed=0)
    played["two"]["Thompson"].regret[-1]               # thumbs lost in 5,000, on average
    auer_bound((0.4, 0.6), 5000)                       # 341.5: more than UCB1 loses
    lai_robbins((0.4, 0.6)) * math.log(5000)           # 21.0: grows as no good policy can undercut

Regret is pseudo-regret: the best version's rate less that of the version chosen, summed over the judgements; the luck
of single judgements has no part in it. The server also gives a share of its traffic to all versions alike
(docs/ab-testing.md); here the bandits choose alone. K arms, R runs.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import rel_entr

from lab.experiment import Experiment, at_least, at_most, within
from lab.parallel import spread
from lab.testbed import POINTS, Bernoulli, Course, Maker, play, summary
from rlhf.bandits import UCB1, EpsilonGreedy, FixedShares, Floats, ThompsonSampling

NORMAL_95 = 1.959964
LEAST = 1e-3
"""What the lower end of an interval must reach: two policies that do the same have 0."""
SIGMAS = 4
"""Standard errors that a mean may lie from its expectation."""


def even_split(arms: int, *, runs: int) -> FixedShares:
    """All versions alike, as `policy: fixed` routes with a challenger that gets half."""
    return FixedShares([1.0] * arms, runs=runs)


class Problem(NamedTuple):
    """Versions, and the policies that route to them."""

    title: str
    versions: Bernoulli
    policies: Mapping[str, Maker]


POLICIES: dict[str, Maker] = {
    "even split": even_split,
    "ε-greedy, 0.1": EpsilonGreedy,
    "UCB1": UCB1,
    "Thompson": ThompsonSampling,
}
"""Those of `rlhf.chat.ab_test.policy` with the defaults of `RoutingSection`."""
FOLLOWERS: dict[str, Maker] = {
    "Thompson": ThompsonSampling,
    "Thompson, discount 0.99": partial(ThompsonSampling, discount=0.99),
    "Thompson, window 200": partial(ThompsonSampling, window=200),
}
TWO = (0.4, 0.6)
TEN = (0.1, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01)
"""Of Garivier and Cappé (2011, figure 2)."""
PROBLEMS = {
    "two": Problem("Two versions, liked by 40% and 60%", Bernoulli(TWO), POLICIES),
    "ten": Problem("Ten versions, liked by 1% to 10%", Bernoulli(TEN), POLICIES),
    "swap": Problem("Two versions that change places half-way", Bernoulli(TWO, swaps=True), FOLLOWERS),
}
Played = dict[str, dict[str, Course]]
"""Problem → policy → how it did."""


def route(problems: Mapping[str, Problem], steps: int, runs: int, seed: int, workers: int | None = None) -> Played:
    """The course of each policy on each problem.

    Args:
        problems: name → problem.
        steps: judgements of a run.
        runs: R.
        seed: see `play`.
        workers: processes; None: one for each core.
    """
    places = [(name, policy) for name, problem in problems.items() for policy in problem.policies]
    places.sort(key=lambda place: -problems[place[0]].versions.arms)  # the long ones first, as in `bandits.compete`
    jobs = [(problems[name].policies[policy], problems[name].versions, steps, runs, seed) for name, policy in places]
    courses = dict(zip(places, spread(play, jobs, "routing", workers), strict=True))
    return {name: {policy: courses[name, policy] for policy in problems[name].policies} for name in problems}


def lai_robbins(rates: Sequence[float]) -> float:
    """Σ Δ / KL(μ, μ*) over the worse arms: what regret must at least gain while ln t gains 1, for t → ∞.

    Lai and Robbins (1985), for every policy whose regret grows more slowly than any power of t on all arms. It bounds
    the growth in the end, not the regret at some t.

    Args:
        rates: (K,) chances that the arms pay 1.
    """
    best = max(rates)
    return sum((best - rate) / divergence(rate, best) for rate in rates if rate < best)


def divergence(p: float, q: float) -> float:
    """KL(p, q) = p ln(p/q) + (1 - p) ln((1 - p)/(1 - q)) of two coins, in nats."""
    return float(rel_entr(p, q) + rel_entr(1 - p, 1 - q))


def auer_bound(rates: Sequence[float], steps: int) -> float:
    """8 Σ ln n / Δ + (1 + π²/3) Σ Δ over the worse arms: mean regret of UCB1 after n steps is at most that.

    Auer, Cesa-Bianchi and Fischer (2002, theorem 1), for rewards in [0, 1].

    Args:
        rates: (K,) mean rewards.
        steps: n.
    """
    gaps = [max(rates) - rate for rate in rates if rate < max(rates)]
    return 8 * math.log(steps) * sum(1 / gap for gap in gaps) + (1 + math.pi**2 / 3) * sum(gaps)


def even_gap(rates: Sequence[float]) -> float:
    """Mean regret a step of choosing all arms alike."""
    return max(rates) - float(np.mean(rates))


def growth(regret: Floats) -> float:
    """Gain of a (T,) curve over its last nine tenths while ln t gains 1: to be held against `lai_robbins`."""
    begin = max(1, len(regret) // 10)
    return float((regret[-1] - regret[begin - 1]) / math.log(len(regret) / begin))


def results(problems: Mapping[str, Problem], played: Played) -> dict[str, Any]:
    """Of all, for the JSON; curves of regret at the end of each block of steps."""
    found: dict[str, Any] = {}
    for name, (title, versions, _) in problems.items():
        found[name] = {"title": title, "rates": versions.rates, "swaps": versions.swaps}
        if not versions.swaps:
            found[name]["lai_robbins"] = lai_robbins(versions.rates)
        found[name]["policies"] = {policy: _regret(course) for policy, course in played[name].items()}
    return found


def _regret(course: Course) -> dict[str, Any]:
    block = max(1, len(course.regret) // POINTS)
    return summary(course) | {
        "regret": float(course.regrets.mean()),
        "regret_standard_error": float(course.regrets.std() / np.sqrt(len(course.regrets))),
        "growth": growth(course.regret),
        "second_half": course.second_half.summary(),
        "regrets": course.regret[block - 1 :: block].round(4).tolist(),
    }


def lower_end(values: Floats) -> float:
    """Of the 95% interval of the mean of (R,) independent values."""
    return float(values.mean() - NORMAL_95 * values.std(ddof=1) / np.sqrt(len(values)))


def claim(experiment: Experiment, played: Played) -> None:
    """Hold the courses of `PROBLEMS` against theorems, published orders, and what can be worked out by hand."""
    for name in ("two", "ten"):
        title, versions, _ = PROBLEMS[name]
        _claim_order(experiment, title, versions.rates, played[name])
    steps = len(played["two"]["UCB1"].regret)
    bound = auer_bound(TWO, steps)
    if bound < steps * even_gap(TWO):  # in fewer steps any policy keeps it
        experiment.claim(f"{PROBLEMS['two'].title}: regret of UCB1 after {steps:,} steps",
                     float(played["two"]["UCB1"].regrets.mean()), at_most(bound),
                     "Auer, Cesa-Bianchi and Fischer 2002, theorem 1", f"at most {bound:.1f}")  # fmt: skip
    plain, *forgetful = FOLLOWERS
    for follower in forgetful:
        ahead = played["swap"][follower].second_half.optimal - played["swap"][plain].second_half.optimal
        experiment.claim(f"{PROBLEMS['swap'].title}: share of the better one from then on, {follower},"
                         " less without: lower end of the 95% interval", lower_end(ahead), at_least(LEAST),
                         "Raj and Kalyani 2017 (discount), Trovò et al. 2020 (window): who forgets follows changes",
                         "more than 0")  # fmt: skip


def _claim_order(experiment: Experiment, title: str, rates: Sequence[float], courses: Mapping[str, Course]) -> None:
    even = courses["even split"]
    steps, root = len(even.regret), np.sqrt(len(even.regrets))
    expected = steps * even_gap(rates)
    error = float(even.regrets.std(ddof=1) / root)
    experiment.claim(f"{title}: regret of an even split after {steps:,} steps", float(even.regrets.mean()),
                     within(expected, SIGMAS * error), f"steps times the mean gap; {SIGMAS} standard errors",
                     f"{expected:.1f}")  # fmt: skip
    saved = courses["UCB1"].regrets - courses["Thompson"].regrets
    experiment.claim(f"{title}: regret of UCB1 less that of Thompson sampling, lower end of the 95% interval",
                     lower_end(saved), at_least(LEAST),
                     "Chapelle and Li 2011; Kaufmann, Korda and Munos 2012: Thompson sampling loses less",
                     "more than 0")  # fmt: skip
