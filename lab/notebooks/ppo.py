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
# # Proximal policy optimisation
#
# The algorithm that aligns the chat model, on problems so small that five seeds of it take minutes: a pole to balance,
# a double pendulum to swing up, a car too weak for its hill. Advantages and losses are the functions of
# `rlhf.ppo_math`, the same that train the language model; environments and networks are other ones.
#
# J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, *Proximal Policy Optimization Algorithms*, 2017,
# arXiv 1707.06347.

# %%
import os

import gymnasium
import numpy as np
import torch

from lab.ppo.command import STUDIED, Arguments, studied, trainings
from lab.ppo.settings import TASKS
from lab.run_figures import curves, evaluations, sensitivity
from rlhf.ppo_math import Ends, generalized_advantages, policy_loss

SHORT = bool(os.environ.get("LAB_SHORT"))
SETTINGS = Arguments(tasks=("CartPole-v1",), seeds=1, share=0.02, episodes=5, workers=1) if SHORT else Arguments()
print(SETTINGS)

# %% [markdown]
# ## Theory
#
# **The gradient of a policy.** A policy $\pi_\theta(a \mid s)$ is to earn as much as it can. With $\hat A_t$ an
# estimate of the advantage, how much better action $a_t$ was than what the policy does on average in $s_t$,
# $$\nabla_\theta J = \mathbb{E}\big[\hat A_t\, \nabla_\theta \ln \pi_\theta(a_t \mid s_t)\big].$$
# This is the gradient bandit's step, with states. The expectation is over what *this* policy does, so each step forward
# makes the data stale.
#
# **Several steps on the same data.** Weighting by the ratio $r_t(\theta) = \pi_\theta(a_t \mid s_t) /
# \pi_{\text{old}}(a_t \mid s_t)$ corrects for that, but only near the old policy is the estimate worth anything. PPO
# takes away the incentive to leave:
# $$L(\theta) = \mathbb{E}\big[\min\big(r_t \hat A_t,\
# \mathrm{clip}(r_t, 1 - \epsilon, 1 + \epsilon)\,\hat A_t\big)\big].$$
# An action that was good gains nothing by becoming more than $1 + \epsilon$ times as likely; one that was bad, nothing
# by becoming less than $1 - \epsilon$ times. The minimum sees to it that what has become worse is always put right.
#
# **Advantages.** With a critic $V$, one step gives $\delta_t = r_t + \gamma V(s_{t+1}) - V(s_t)$: little noise, but as
# wrong as the critic is. All rewards to the end of the episode give no error, but much noise. Generalised advantage
# estimation (Schulman et al. 2016, arXiv 1506.02438) lies between, with $\lambda$ from 0 to 1:
# $$\hat A_t = \sum_{l \ge 0} (\gamma\lambda)^l\, \delta_{t+l}, \qquad
# \hat A_t = \delta_t + \gamma\lambda\, \hat A_{t+1}.$$
#
# **Where episodes end.** If the pole falls, nothing follows: $V(s_{t+1})$ counts as 0. If the clock cuts the episode
# short, the pole still stands, and $V(s_{t+1})$ is what it would have brought. A critic that takes the second for the
# first learns that the end is near in states that do not show it. Gymnasium's environments reset themselves on the next
# step, whatever is done; that step has no reward and no action, and must not be learned from.
#
# **Exploring with numbers.** Where actions are numbers, the policy is a normal distribution. Noise that is new at each
# step shakes a car to and fro and goes nowhere. Generalised state-dependent exploration (Raffin et al. 2021,
# arXiv 2005.05719) draws a matrix $E$ now and then and adds $E^\top h(s)$, a function of the state: for a while the
# policy is simply another one. Over the draws, the noise in $s$ has variance $\sum_i h_i(s)^2 \sigma_i^2$, and from
# that come the probabilities.

# %% [markdown]
# ## By hand
#
# Four steps of one environment, all values and rewards 1, $\gamma = 0.9$, $\lambda = 1$. In the second step the
# episode is over; the third only resets. If it was cut short, 0.9 more is expected behind it.

# %%
ones, mask = torch.ones(1, 4), torch.tensor([[True, True, False, True]])
for what, goes_on in (("cut short", True), ("over", False)):
    ends = Ends(torch.tensor([[True, goes_on, True, True]]), bootstrap=torch.ones(1))
    print(what, generalized_advantages(ones, ones, mask, gamma=0.9, lam=1.0, ends=ends)[0].tolist())

# %% [markdown]
# The loss of one action whose advantage is 1, with $\epsilon = 0.2$, while its probability grows: flat beyond 1.2.

# %%
ratios = torch.linspace(0.6, 1.6, 11)
losses = [policy_loss(ratio.log()[None], torch.zeros(1), torch.ones(1), None, clip=0.2).loss.item() for ratio in ratios]
print([f"{ratio:.1f}: {loss:.2f}" for ratio, loss in zip(ratios, losses, strict=True)])

# %% [markdown]
# ## Run
#
# The settings start from those of RL-Baselines3-Zoo. Five seeds of each task, side by side on the cores that are there.

# %%
for task in SETTINGS.tasks:
    environment = gymnasium.make(task)
    print(f"{task}: sees {environment.observation_space}, does {environment.action_space}\n{TASKS[task].settings}\n")

# %%
runs = trainings(SETTINGS)
asked = {task: TASKS[task].wanted.low for task in runs}

# %% [markdown]
# ## Results
#
# 100 fresh episodes of the policy that training ended with, without exploration. None of the seeds is left out.

# %%
for task, of in runs.items():
    means = [np.mean(run.evaluation) for run in of]
    print(f"{task:26}{np.median(means):9.2f}  seeds {', '.join(f'{mean:.1f}' for mean in means)}; "
          f"published: {TASKS[task].published}")  # fmt: skip

# %%
curves(runs, asked, "PPO while it learns").show()

# %%
evaluations(runs, asked, "PPO without exploration, after training").show()

# %% [markdown]
# ## Sensitivity
#
# CartPole with one setting changed at a time, each with three seeds, on fewer steps than above so that what is slower
# shows. The task's settings are a learning rate of 0.001, a clip of 0.2 and λ = 0.8; learning rate and clip go down
# to 0.

# %%
found = studied(SETTINGS)
sensitivity(found, STUDIED).show()

# %% [markdown]
# - **Learning rate.** The one that matters most. A third of the usual one is too slow for 40,000 steps; three times as
#   much earns most while it learns, and every seed ends at 500. Ten times as much still learns, thanks to the clip, but
#   more slowly than three times.
# - **Clip.** With 0.1 alone every seed ends at 500, and it learns fastest. With less, one seed of three ends near 430;
#   with the usual 0.2 one at 287; from 0.5 on two of three fail, down to a return of 100: this is what the clip is for.
# - **λ.** Differences between seeds are larger than those between values. On this task, where one mistake costs
#   everything that follows and rewards have no noise, sums of all rewards (λ = 1) are no worse than most. A critic's
#   word alone (λ = 0) earns least while it learns.
#
# Three seeds show what is large. They do not tell 0.8 from 0.9.
