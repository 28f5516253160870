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

from lab.chat import Arguments, summary, trainings
from lab.chat_figures import learning, sensitivity
from lab.chat_outcome import NAMES
from lab.chat_worlds import fact, known, questions

SHORT = bool(os.environ.get("LAB_SHORT"))
ARGUMENTS = (
    Arguments(
        seeds=1, steps=256, environments=8, prompts=100, held_out=10, reply_tokens=4, entries=300, language_steps=1,
        workers=1,
    )
    if SHORT
    else Arguments()
)  # fmt: skip

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
# For each seed a small language model is made and trained on questions of the embedded school corpus with their
# references, until it gets most answers right. What is measured on are other questions, each once. They are other
# wordings: nearly all ask for a fact that some training question asks for too.

# %%
asked = questions(ARGUMENTS.task(ARGUMENTS.seed))
facts = {fact(prompt) for prompt in asked.held_out}
print(f"{len(asked.training)} questions to learn from, {len(asked.held_out)} to measure on, about {len(facts)} facts")
print(f"{known(asked):.1%} of the held-out questions ask for a fact of training in other words")

# %% [markdown]
# Every seed is trained, and so is everything that the study at the end needs, in processes side by side.

# %%
done, study = trainings(ARGUMENTS)

# %% [markdown]
# ## Results
#
# Questions about one fact are rewordings of each other, so they do not count as independent: an interval comes from
# drawing *facts* again and again, each with all its questions (the cluster bootstrap). With facts $c$, the number of
# their questions $n_c$ and the sums $s_c$ of what the questions gained, each draw $c_1 \dots c_C$ gives the mean
#
# $$\bar g = \frac{\sum_k s_{c_k}}{\sum_k n_{c_k}},$$
#
# and 95% of these means lie between the ends of the interval.

# %%
for seed, of in done.items():
    print(summary(seed, of))

# %%
outcome = next(iter(done.values())).outcome
for who, mean in outcome.means().items():
    print(f"{mean:.3f} {NAMES[who]}")
learning(done)

# %% [markdown]
# What is replied to held-out questions, before and after, by the first seed:

# %%
for one in next(iter(done.values())).examples[:5]:
    print(f"{one['question']}\n   before: {one['before']['text']}\n   after: {one['after']['text']}")
    print(f"   reference: {one['reference']}")

# %% [markdown]
# ## Sensitivity
#
# Left, how far each step of PPO goes; too far, and the language model is forgotten. Right, how long the language model
# was trained before PPO began. From 300 to 600 steps that decides far more than PPO does. From 600 to 1,200 the reward
# hardly moves, and PPO adds more; right answers go on growing with the language model's steps, and not with PPO.

# %%
sensitivity(study)
