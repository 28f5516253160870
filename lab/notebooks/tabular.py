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
# # Tabular reinforcement learning
#
# A world with few states and actions, in which everything can be written into a table. First the world is known and
# its values are computed; then it is not, and they are learned from what happens. The algorithms are in
# `lab/dynamic_programming.py`, `lab/tabular_control.py` and `lab/tabular_prediction.py`; this notebook runs them.
# Numbers of examples and figures are those of Sutton and Barto, *Reinforcement Learning*, 2nd edition (2018).

# %%
import os

import gymnasium
import numpy as np

from lab import gridworld
from lab.drawing import lines
from lab.dynamic_programming import (
    action_values,
    evaluate,
    gamblers_problem,
    model_of,
    policy_iteration,
    solve,
    uniform,
    value_iteration,
)
from lab.gridworld import FOUR, Grid, GridWorld
from lab.schedules import constant, exponential, linear
from lab.tabular_control import METHODS, Learned, learn
from lab.tabular_figures import errors, gambler, maps, panel, returns, sensitivity
from lab.tabular_planning import greedy_return
from lab.tabular_prediction import RULES, predict
from lab.tabular_worlds import copies

SHORT = bool(os.environ.get("LAB_SHORT"))
RUNS, EPISODES = (5, 100) if SHORT else (50, 500)
SWEPT_RUNS, ALPHAS = (5, np.array([0.1, 0.5, 1.0])) if SHORT else (100, np.linspace(0.1, 1.0, 10))
LONG = 100 if SHORT else 1000

# %% [markdown]
# ## A world that is known
#
# A Markov decision process has states $s$, actions $a$, probabilities $p(s', r \mid s, a)$ of what follows, and a
# discount $\gamma$. The value of a state under a policy $\pi$ is the expected return from there,
#
# $$v_\pi(s) = \mathbb{E}_\pi\Big[\sum_{k \ge 0} \gamma^k R_{t+k+1} \,\Big|\, S_t = s\Big]
#   = \sum_a \pi(a \mid s) \sum_{s', r} p(s', r \mid s, a)\,\big[r + \gamma v_\pi(s')\big].$$
#
# This is Bellman's equation. It is linear, so that `solve` finds $v_\pi = (I - \gamma P_\pi)^{-1} r_\pi$ at once;
# `evaluate` reaches the same by sweeping the right side over the table until nothing changes.

# %%
small = GridWorld(gridworld.SMALL).model
values = evaluate(small, uniform(small), gamma=1.0)
print(values.reshape(4, 4).round(2))
print("largest difference to the linear system:", np.abs(values - solve(small, uniform(small), 1.0)).max())

# %% [markdown]
# The best values satisfy $v_*(s) = \max_a \sum_{s', r} p(s', r \mid s, a)\,[r + \gamma v_*(s')]$. **Value iteration**
# sweeps this equation. **Policy iteration** evaluates a policy, then takes the best action under its values, in turn;
# each policy is at least as good as the one before, and there are finitely many.

# %%
lake = model_of(gymnasium.make("FrozenLake-v1"))
by_values, by_policies = value_iteration(lake, 0.99), policy_iteration(lake, 0.99)
print("value iteration: ", len(by_values.history) - 1, "sweeps, V(0) =", round(by_values.values[0], 5))
print("policy iteration:", len(by_policies.history), "policies, V(0) =", round(by_policies.values[0], 5))

# %% [markdown]
# Worlds are drawn as text. Here is one of our own: walls, a wind that blows up in two columns, feet that slip.

# %%
own = GridWorld(
    Grid(
        ("....#...", ".##...#.", "S..C...G", "...C...."), wind=(0, 0, 0, 0, 1, 1, 0, 0), slip=0.1, rewards={"C": -20.0}
    ),
    render_mode="ansi",
)
own.reset(seed=0)
print(own.render())
best = value_iteration(own.model, 1.0).values
hide = np.array([letter in "#CG" for letter in own.grid.letters])
maps(
    [panel("Optimal", best, action_values(own.model, best, 1.0), FOUR, own.grid.shape, hide)], 1, "A world of our own"
).show()

# %% [markdown]
# In the gambler's problem (example 4.3) the state is the capital, the action the stake, and 1 the reward of reaching
# 100. With heads less likely than tails it is best to play boldly: all at 50, all or what is missing at 25 and 75.

# %%
gambler(value_iteration(gamblers_problem(0.4), 1.0), 0.4).show()

# %% [markdown]
# ## Prediction: a world that is not known
#
# Monte Carlo waits for the return $G_t$ and moves the value towards it. TD(0) does not wait: it moves the value towards
# the reward and the next state's value as it is known so far.
#
# $$\text{MC:}\; V(S_t) \leftarrow V(S_t) + \alpha\,[G_t - V(S_t)] \qquad
#   \text{TD(0):}\; V(S_t) \leftarrow V(S_t) + \alpha\,[R_{t+1} + \gamma V(S_{t+1}) - V(S_t)]$$
#
# TD's target is biased as long as the values are wrong, but varies less. On the random walk of example 6.2 that pays.

# %%
walk = GridWorld(gridworld.WALK).model
truth, start = solve(walk, uniform(walk), 1.0), np.where(walk.ends, 0.0, 0.5)


def rms(rule: str, alpha: float) -> np.ndarray:
    """Error after each episode, mean over the states that do not end and over the runs."""
    worlds = copies(lambda: gymnasium.make("lab/RandomWalk-v0"), 20 if SHORT else 500, seed=0)
    history = predict(worlds, uniform(walk), RULES[rule], 50 if SHORT else 100, alpha, start, bar=False)
    return np.sqrt(((history - truth)[:, :, ~walk.ends] ** 2).mean(2)).mean(1)


settings = [
    ("TD(0)", 0.05),
    ("TD(0)", 0.15),
    ("every-visit MC", 0.01),
    ("every-visit MC", 0.03),
    ("first-visit MC", 0.03),
]
errors({f"{rule}, α = {alpha}": rms(rule, alpha) for rule, alpha in settings}, "Random walk").show()

# %% [markdown]
# ## Control
#
# To act, values of actions are needed: $Q(S, A) \leftarrow Q(S, A) + \alpha\,[R + \gamma\,\text{target} - Q(S, A)]$.
# The four methods differ in the target alone.
#
# | method | target |
# | --- | --- |
# | SARSA | $Q(S', A')$, the action that is taken next |
# | expected SARSA | $\sum_a \pi(a \mid S')\,Q(S', a)$, the mean over those that might be |
# | Q-learning | $\max_a Q(S', a)$, the best, whatever is taken |
# | double Q-learning | $Q_2(S', \arg\max_a Q_1(S', a))$, one table chooses, the other judges |
#
# SARSA learns the value of the policy it follows, with its random steps: along a cliff, it keeps away from the edge.
# Q-learning learns the best policy while it follows another: it knows the shortest path and falls off it. The maximum
# of noisy estimates is too high on average; two tables with noise of their own take that bias away.


# %%
def cliff(method: str, runs: int, episodes: int, alpha: float | np.ndarray) -> Learned:
    """Learn on the cliff of example 6.6."""
    worlds = copies(lambda: gymnasium.make("lab/CliffWalking-v0"), runs, seed=0)
    return learn(worlds, METHODS[method], episodes, alpha, constant(0.1), bar=False)


learned = {method: cliff(method, RUNS, EPISODES, 0.5) for method in METHODS}
for method, one in learned.items():
    print(f"{method:18} last fifth of the episodes: {one.returns[:, -(EPISODES // 5) :].mean():.1f}")
returns({method: one.returns for method, one in learned.items()}, "Cliff walking", (-120, 0)).show()

# %%
cliffs = GridWorld(gridworld.CLIFFS)
print("greedy returns of Q-learning:", {greedy_return(cliffs.model, q, 36) for q in learned["Q-learning"].q})
hide = np.array([letter in "CG" for letter in cliffs.grid.letters])
panels = [
    panel(method, one.q.mean(0).max(1), one.q.mean(0), FOUR, cliffs.grid.shape, hide) for method, one in learned.items()
]
maps(panels, 1, "Values and best moves, mean of the runs", 0.05).update_layout(width=760, height=1120).show()

# %% [markdown]
# ## Sensitivity to the step size
#
# Figure 6.3: the mean return over the first 100 episodes (interim) and in the long run (asymptotic), against $\alpha$.
# All step sizes are learned side by side, each run with its own. SARSA's target is noisy: a large step size follows the
# noise. Expected SARSA has averaged that noise away, so that $\alpha = 1$ does no harm here, where the world itself has
# no chance in it.

# %%
swept, first, last = np.repeat(ALPHAS, SWEPT_RUNS), {}, {}
for method in ("SARSA", "expected SARSA", "Q-learning"):
    all_returns = cliff(method, len(swept), LONG, swept).returns
    first[method] = all_returns[:, :100].reshape(len(ALPHAS), -1).mean(1)
    last[method] = all_returns[:, LONG // 2 :].reshape(len(ALPHAS), -1).mean(1)
sensitivity(ALPHAS, first, last).show()

# %% [markdown]
# ## Sensitivity to exploration
#
# FrozenLake gives one reward, at the end. With little exploration from the start it is seldom found; with much of it to
# the end, what was learned is not used. A schedule begins with one and ends with the other. The greedy policies are
# judged exactly, by dynamic programming; the best possible value of the start is 0.542.

# %%
schedules = {
    "constant 0.1": constant(0.1),
    "constant 0.5": constant(0.5),
    "linear 1 to 0.01": linear(1.0, 0.01, fraction=0.8),
    "exponential 1 to 0.01": exponential(1.0, 0.01),
}
curves = {}
for name, schedule in schedules.items():
    worlds = copies(lambda: gymnasium.make("FrozenLake-v1"), RUNS, seed=0)
    one = learn(worlds, METHODS["Q-learning"], 200 if SHORT else 3000, 0.1, schedule, 0.99, bar=False)
    worth = [solve(lake, np.eye(4)[q.argmax(1)], 0.99)[0] for q in one.q]
    print(f"{name:22} value of the greedy policies: {np.mean(worth):.3f}")
    curves[name] = one.returns
returns(curves, "FrozenLake: Q-learning under schedules of ε", (0, 0.8), 100).update_layout(
    legend=dict(x=0.01, y=0.98, xanchor="left", yanchor="top")
).show()

# %%
progress = np.linspace(0, 1, 101).tolist()
lines({name: (progress, [schedule(at) for at in progress]) for name, schedule in schedules.items()}, "Progress", "ε",
      "The schedules").show()  # fmt: skip
