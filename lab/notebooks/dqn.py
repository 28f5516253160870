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

import numpy as np

from lab.dqn import GOALS, Arguments, studied, trainings
from lab.dqn_learner import Settings
from lab.replay import PrioritisedReplay, Transitions
from lab.run_figures import curves, evaluations, sensitivity
from lab.runs import mean_returns

SHORT = bool(os.environ.get("LAB_SHORT"))
few = Settings(steps=400, hidden=(16,), environments=2, warmup=100, train_every=40, replay_ratio=0.1)
ARGUMENTS = Arguments(seeds=1, episodes=10, workers=1, dqn=few) if SHORT else Arguments()

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
# error is as large as the value, up to $1 / (1 - \gamma) = 200$. A loss that is linear beyond an error of 1, as is
# usual for rewards of $\pm 1$ and values of a few units, pulls towards a median, to which rare ends count for little;
# a square pulls towards the mean, which is what $Q$ is. `Settings.huber` is the error from which the loss is linear:
# 100 here, and swept below.
#
# **How far to look.** A pole that leans tells on itself within a second; a cart that creeps to the edge of its track
# does not fail for hundreds of steps. What happens in 300 steps counts 5% with $\gamma = 0.99$, and 22% with 0.995. Of
# 90 episodes of three policies that had been trained with 0.99 and failed, 80 ended at the edge of the track and 3 with
# a fallen pole. $\gamma$ is swept below, too.
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
# Each on every seed, at the same settings; double DQN on Acrobot, too. The curve is the return of the training
# episodes, exploration and all: the median of the seeds, and from the worst to the best.

# %%
runs = trainings(ARGUMENTS)
asked = {name: GOALS[name.split(",")[0]][0] for name in runs}
curves(runs, asked, "DQN while it learns").show()

# %% [markdown]
# ## Results
#
# What each seed ends with: the policy after the last step plays 100 episodes whose seeds training has not used. Nothing
# is chosen on the way, neither a policy nor a seed.

# %%
evaluations(runs, asked, "DQN without exploration, after training").show()

# %%
for name, of in runs.items():
    print(f"{name:38}{np.round(mean_returns(of), 1)}")

# %% [markdown]
# ## What it is sensitive to
#
# Double DQN with one setting changed at a time, two seeds each, on full settings.

# %%
sensitivity(studied(ARGUMENTS), "CartPole-v1").show()

# %% [markdown]
# - **Rounds of updates.** There are as many updates in all of these; what differs is how many steps pass between two
#   rounds. With 64 one seed of two fails, with 256 both do.
# - **Target rate.** A hundredth of the way holds on both seeds. Faster, and the target runs after what it is to steady:
#   both fail. Slower, and one of two is not done in time.
# - **Huber.** Linear from 1 on, both fail: rare ends are not seen. From 10 on both hold.
# - **Discount.** With 0.98 both fail, from 0.99 on both hold.
#
# Returns while it learns tell another story than those at the end: rounds of 256 earn more on the way, with 4% of the
# actions at random, than the usual ones (290 against 255), and little more than half of that without any.
#
# Two seeds show what is large. They do not tell 0.99 from 0.998.
