"""Bandits: which arm to pull next, given what the arms have paid so far.

    bandit = ThompsonSampling(arms=2, discount=0.99)
    arm = bandit.choose(rng)              # 0 or 1
    bandit.update(arm, reward)            # 0 <= reward <= 1
    bandit.probabilities()                # with which `choose` would take each arm now: (K,), sums to 1

| class | what it keeps | rewards | source |
| --- | --- | --- | --- |
| `FixedShares` | nothing that it uses | any | |
| `EpsilonGreedy` | a value of each arm | any | Sutton and Barto 2018, section 2.2; optimistic 2.6 |
| `UCB1` | the same | [0, 1] | Auer et al. 2002 |
| `UCB` | the same | any | Sutton and Barto 2018, section 2.7 |
| `ThompsonSampling` | a Beta posterior of each arm | [0, 1] | Thompson 1933 |
| `GaussianThompson` | a normal posterior of each arm | any | Russo et al. 2018 |
| `GradientBandit` | a preference for each arm | any | Sutton and Barto 2018, section 2.8 |

Where the arms change over time, the past can be made to count less (`discount`: every update multiplies what was seen
before by it; `step_size`: every update of an arm moves its value by that share of the way) or not at all (`window`:
only so many of the last updates count). `runs` holds many independent copies of one bandit, for simulations:
`choose_all` and `update_all` serve them in one step, with the arithmetic of a single one. K arms, R runs.
"""

from rlhf.bandits.base import Bandit, Floats, Ints, best, draw
from rlhf.bandits.counting import CountingBandit, FixedShares
from rlhf.bandits.gradient import GradientBandit
from rlhf.bandits.thompson import GaussianThompson, ThompsonSampling, probability_of_best
from rlhf.bandits.values import UCB, UCB1, EpsilonGreedy, ValueBandit

__all__ = [
    "UCB", "UCB1", "Bandit", "CountingBandit", "EpsilonGreedy", "FixedShares", "Floats", "GaussianThompson",
    "GradientBandit", "Ints", "ThompsonSampling", "ValueBandit", "best", "draw", "probability_of_best",
]  # fmt: skip
