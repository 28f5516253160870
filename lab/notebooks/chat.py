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
# # The chat as an environment
#
# Everything before this one learned to balance poles and to walk through grids. Here the same PPO, unchanged, learns to
# reply: `rlhf.env` makes the chat a Gymnasium environment, and to the algorithm a token is an action like any other.

# %%
import os
from dataclasses import replace

import numpy as np

from lab.chat import Arguments, examples, figure, learn, measure, settings, untrained, worlds
from lab.drawing import lines
from lab.ppo.runs import means

SHORT = bool(os.environ.get("LAB_SHORT"))
ARGUMENTS = (
    Arguments(steps=512, environments=8, prompts=100, held_out=10, reply_tokens=4, entries=300, language_steps=5)
    if SHORT
    else Arguments(steps=60_000)
)

# %% [markdown]
# ## Theory
#
# A conversation is a Markov decision process:
#
# - the state $s_t$ is the conversation so far, as tokens $x_1 \dots x_t$;
# - an action $a_t$ is the next token, one of $V$;
# - the next state is certain: $s_{t+1} = (x_1 \dots x_t, a_t)$;
# - the reward is 0 until the reply is whole, and then what the reply is worth.
#
# A language model *is* a policy in it: with $h(s)$ its last hidden state and $W$ its head,
#
# $$\pi(a \mid s) = \mathrm{softmax}(W h(s))_a .$$
#
# So RLHF is reinforcement learning that starts from a good policy. Here the body $h$ is kept, frozen, and the head is
# thrown away: a small network on $h(s)$ has to find out from the reward alone which tokens are worth saying. There is
# one reward at the end of each reply, so nothing is discounted ($\gamma = 1$), and generalised advantage estimation
# (Schulman et al. 2016) spreads it over the tokens:
#
# $$\hat A_t = \sum_{k \ge 0} (\gamma \lambda)^k \delta_{t+k}, \qquad \delta_t = r_t + \gamma V(s_{t+1}) - V(s_t).$$
#
# The reward of a reply with the words $w$, where the reference has the words $r$ (Rajpurkar et al. 2016):
#
# $$F_1 = \frac{2\,|w \cap r|}{|w| + |r|}.$$

# %% [markdown]
# ## Run
#
# A small language model is made and trained on questions of the embedded school corpus. What is measured on are others.

# %%
both = worlds(ARGUMENTS)
of = settings(ARGUMENTS.steps, ARGUMENTS.environments)
print(f"{len(both.training.prompts)} questions, {both.training.vocabulary} tokens to choose from")
start = untrained(both.training, of, ARGUMENTS.seed)
training = learn(both.training, of, ARGUMENTS.seed)

# %% [markdown]
# ## Results

# %%
outcome = measure(both.held_out, ARGUMENTS.held_out, start, training.agent)
points = np.linspace(0, of.steps, 26).round().astype(int)[1:]
print({name: round(float(rewards.mean()), 3) for name, rewards in outcome._asdict().items()}, "gain", outcome.gain)
figure(points.tolist(), means(training.episodes, points), outcome)

# %% [markdown]
# What it replies to questions that it was never asked:

# %%
for one in examples(both.held_out, training.agent, 5):
    print(f"{one['question']}\n   reply: {one['reply']}\n   reference: {one['reference']}\n   {one['reward']:.2f}")

# %% [markdown]
# ## Sensitivity
#
# How much the bonus for entropy matters: without it, the policy settles early on the first word that paid; with much of
# it, it goes on saying anything.

# %%
bonuses = (0.0, 0.05) if SHORT else (0.0, 0.003, 0.01, 0.03, 0.1)
curves = {}
for bonus in bonuses:
    changed = replace(of, entropy_weight=bonus)
    episodes = learn(both.training, changed, ARGUMENTS.seed).episodes
    curve = means(episodes, points)
    curves[f"bonus {bonus:g}"] = [
        (step, mean) for step, mean in zip(points.tolist(), curve, strict=True) if mean is not None
    ]
lines({name: ([s for s, _ in curve], [m for _, m in curve]) for name, curve in curves.items()},
      "Tokens", "Mean reward of a reply", "How much chance is worth")  # fmt: skip
