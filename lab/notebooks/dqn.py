# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Deep Q-networks
#
# Q-learning keeps a number for every state and action. CartPole's state is four real numbers: no table holds them
# all. A network $Q_\theta(s, a)$ stands in for the table, and two things keep it from running after itself: a memory
# it learns from in any order, and a copy of itself, following slowly, that says what is to come (Mnih et al. 2015).

# %%
import os
from dataclasses import replace
from typing import Any

import numpy as np
from IPython.display import display

from lab.dqn import VARIANTS, Arguments, endings, panels, runs
from lab.dqn_learner import Settings
from lab.drawing import lines
from lab.replay import PrioritisedReplay, Transitions

SHORT = bool(os.environ.get("LAB_SHORT"))
if SHORT:
    small = Settings(hidden=(16,), environments=2, warmup=100, train_every=40, updates=4)
    ARGUMENTS = Arguments(steps=400, seeds=1, checks=2, episodes=10, workers=1, dqn=small)
else:
    ARGUMENTS = Arguments()

# %% [markdown]
# ## The maths
#
# From a memory $D$ of transitions $(s, a, r, s', d)$, where $d = 1$ if the task ended at $s'$, the network is pulled
# to
#
# $$ y = r + \gamma\,(1 - d)\,\max_{a'} Q_{\theta^-}(s', a'), \qquad
#    L(\theta) = \mathbb{E}_{D}\big[\ell\big(y - Q_\theta(s, a)\big)\big]. $$
#
# $\theta^-$ follows $\theta$: a copy, renewed every so many updates (Mnih et al. 2015), or, as here, a hundredth of
# the way at every update. $d$ is 1 where the pole fell and 0 where the time limit of 500 steps cut the episode off:
# the pole would have gone on standing, so its value counts.
#
# **What the loss must see.** In a game balanced for a hundred steps about one transition in a hundred is an end. Its
# error is as large as the value, up to $1 / (1 - \gamma) = 100$. A loss that is linear beyond an error of 1, as is
# usual for rewards of $\pm 1$ and values of a few units, pulls towards a median, to which rare ends count for little;
# a square pulls towards the mean, which is what $Q$ is. `Settings.huber` is the error from which the loss is linear:
# 100 here, and swept below. No policy's value is above 100: values that are tell of a network that runs after itself.
# With the target copied every 32 updates and a learning rate of $10^{-3}$, mean values on four seeds were 300 to
# 6,000,000 at `huber = 1`, and 150 to 1,500 with the square; with a copy every 128 updates they stayed below 100 with
# either.
#
# **Double DQN** (van Hasselt et al. 2016). The maximum of noisy values is too large on average. One network chooses,
# the other values: $y = r + \gamma (1 - d)\, Q_{\theta^-}\big(s', \arg\max_{a'} Q_\theta(s', a')\big)$.
#
# **Prioritised replay** (Schaul et al. 2016). Transition $i$ with the last error $\delta_i$ is drawn with probability
# $P(i) = p_i^\alpha / \sum_k p_k^\alpha$, $p_i = |\delta_i| + \epsilon$. That is no longer the expectation over $D$,
# so its loss is multiplied by $w_i = (N P(i))^{-\beta} / \max_j w_j$, with $\beta$ rising to 1. A tree of sums finds
# the transition under a running total in $\log_2 N$ steps.

# %%
memory = PrioritisedReplay(4, (1,), alpha=1.0)
rows = np.arange(4, dtype=np.float32)[:, None]
slots = memory.add(Transitions(rows, np.zeros(4, np.int64), rows[:, 0], rows, np.zeros(4, np.bool_)))
memory.reprioritise(slots, np.array([1, -2, 3, 4], np.float32))
sample = memory.sample(1000, np.random.default_rng(0), beta=1.0)
for slot in range(4):
    weight = sample.weights[sample.slots == slot][0]
    print(f"error {[1, -2, 3, 4][slot]:2}: drawn {np.mean(sample.slots == slot):.0%}, weight {weight:.2f}")

# %% [markdown]
# ## Four variants
#
# Each on every seed, at the same settings. The curve is the greedy policy's return in checks on the way: mean over
# seeds, band from the worst seed to the best.

# %%
names: list[str] = list(ARGUMENTS.variants)
series = dict(
    zip(names, runs(ARGUMENTS, [replace(ARGUMENTS.dqn, **VARIANTS[n]) for n in ARGUMENTS.variants], "DQN"), strict=True)
)
panels(series, "CartPole-v1: mean, worst and best seed")

# %% [markdown]
# ## Results
#
# What each seed ends with, over 100 episodes whose seeds neither training nor checks have used: the policy that did
# best in a check, and the policy after the last step. Where the two differ, training unlearned what it had learned.
# The policy kept is chosen by episodes of its own, so its return is no maximum over the evaluation.

# %%
endings(series, 475.0, "CartPole-v1: a dot for each seed")

# %%
for name, several in series.items():
    kept, last = ([float(getattr(one, part).mean()) for one in several] for part in ("kept", "last"))
    print(f"{name:24} kept {np.round(kept, 1)}  last {np.round(last, 1)}")

# %% [markdown]
# ## What it is sensitive to
#
# One setting is changed at a time, on two seeds; the rest stays at the default. A point is the mean of the greedy
# policy's returns over the second half of the checks: a policy that is good once and then lost again counts little.

# %%
SWEEPS: dict[str, tuple[Any, ...]] = {
    "learning_rate": (1e-4, 3e-4, 1e-3, 3e-3),
    "target_rate": (0.003, 0.01, 0.03, 0.1),
    "huber": (1.0, 10.0, 100.0),
    "final_learning_rate": (0.0, 1e-4, 5e-4),
}
if SHORT:
    SWEEPS = {name: values[:2] for name, values in SWEEPS.items()}
few = replace(ARGUMENTS, seeds=1 if SHORT else 2)


def late(several: list) -> float:
    """Mean return over the second half of the checks and over seeds."""
    return float(np.mean([one.curve.means[len(one.curve.means) // 2 :] for one in several]))


def sweep(name: str) -> tuple[list[float], list[float]]:
    """Values of a setting, and how well each did."""
    changes: list[dict[str, Any]] = [{name: value} for value in SWEEPS[name]]
    done = runs(few, [replace(ARGUMENTS.dqn, **change) for change in changes], name)
    return list(SWEEPS[name]), [late(several) for several in done]


swept = {name: sweep(name) for name in SWEEPS}

# %%
for name, points in swept.items():
    figure = lines({name: points}, name, "Return, second half of training", f"CartPole-v1: {name}")
    figure.update_traces(mode="lines+markers").update_xaxes(type="linear" if 0 in points[0] else "log")
    figure.update_layout(showlegend=False).update_yaxes(rangemode="tozero")
    display(figure)
