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
# Everything before this one learned to balance poles and to walk through grids. Here the same PPO goes on from a
# language model: `rlhf.env` makes the chat a Gymnasium environment, and to the algorithm a token is an action like
# any other.

# %%
import os

from lab.chat import (
    Arguments,
    acting,
    curve,
    examples,
    figure,
    known,
    language_model,
    learn,
    measure,
    sensitivity,
    settings,
    studied,
    worlds,
)

SHORT = bool(os.environ.get("LAB_SHORT"))
ARGUMENTS = (
    Arguments(steps=512, environments=8, prompts=100, held_out=10, reply_tokens=4, entries=300, language_steps=5)
    if SHORT
    else Arguments()
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
# So RLHF is reinforcement learning that starts from a good policy, and so does this: the body $h$ is kept, frozen,
# and a linear policy on $h(s)$ starts with the weights $W / \tau$. Its likeliest token is the language model's; while
# it learns it draws at temperature $\tau = 0.5$. All that can change is the head. There is one reward at the end of
# each reply, so nothing is discounted ($\gamma = 1$), and with $\lambda = 1$ each token's advantage is what the whole
# reply brought more than was expected there (generalised advantage estimation, Schulman et al. 2016):
#
# $$\hat A_t = \sum_{k \ge 0} (\gamma \lambda)^k \delta_{t+k}, \qquad \delta_t = r_t + \gamma V(s_{t+1}) - V(s_t).$$
#
# The reward of a reply with the words $w$, where the reference has the words $r$ (Rajpurkar et al. 2016):
#
# $$F_1 = \frac{2\,|w \cap r|}{|w| + |r|}.$$

# %% [markdown]
# ## Run
#
# A small language model is made and trained on questions of the embedded school corpus, just long enough to write
# sentences: many of its facts are wrong. What is measured on are other questions, each once. They are other wordings:
# nearly all ask for a fact that some training question asks for too.

# %%
both = worlds(ARGUMENTS)
of = settings(ARGUMENTS.steps, ARGUMENTS.environments)
print(f"{len(both.training.prompts)} questions, {both.training.vocabulary} tokens to choose from")
print(f"{known(both):.1%} of the held-out questions ask for a fact of training in other words")
start = acting(language_model(both.training, of, ARGUMENTS.seed), of)
training = learn(both.training, of, ARGUMENTS.seed)

# %% [markdown]
# ## Results

# %%
outcome = measure(both, start, training.agent)
print({name: round(float(rewards.mean()), 3) for name, rewards in outcome.rewards().items()})
print("gain over the language model", outcome.gain("before"), "over the best constant reply", outcome.gain("constant"))
print("distinct replies", outcome.distinct(), "- the constant reply:", outcome.constant[0].text)
figure(curve(training, of.steps), outcome)

# %% [markdown]
# What is replied to held-out questions, before and after:

# %%
for one in examples(both.held_out, outcome, 5):
    print(f"{one['question']}\n   before: {one['before']['text']}\n   after: {one['after']['text']}")
    print(f"   reference: {one['reference']}")

# %% [markdown]
# ## Sensitivity
#
# How far each step goes. What the curves show are replies as they are drawn, to training questions.

# %%
sensitivity(studied(both.training, of, ARGUMENTS.seed))
