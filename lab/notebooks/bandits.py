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
# # Bandits
#
# A row of slot machines, each with its own unknown mean payment. Which one do you pull next? Every pull of the machine
# that has paid best earns; every pull of another one teaches. This is the smallest problem that has the tension between
# exploring and exploiting, and nothing else: no states, no delay.
#
# Follows chapter 2 of R. Sutton and A. Barto, *Reinforcement Learning: An Introduction*, second edition, 2018. The
# algorithms are those of `rlhf.bandits`; the same classes send chats to versions of the model (docs/ab-testing.md).

# %%
import os
from functools import partial

from lab.bandit_figures import FIGURES, curves, parameters, regrets, shares
from lab.bandits import ENTRIES, PUBLISHED, STUDY, Arguments, Entry, compete, sweep
from lab.routing import PROBLEMS, Problem, auer_bound, growth, lai_robbins, route
from lab.testbed import WALKING, Bernoulli, Testbed, summary
from rlhf.bandits import EpsilonGreedy, GaussianThompson, GradientBandit, ThompsonSampling

SHORT = bool(os.environ.get("LAB_SHORT"))
SETTINGS = Arguments(runs=40, steps=100, walk_steps=200, route_steps=200, workers=1) if SHORT else Arguments()
ROUTING = (SETTINGS.route_steps, SETTINGS.runs, SETTINGS.seed, SETTINGS.workers)
print(SETTINGS)

# %% [markdown]
# ## Theory
#
# At step $t$ one of $K$ arms, $A_t$, is pulled and pays $R_t$. The value of an arm is its mean payment,
# $q_*(a) = \mathbb{E}[R_t \mid A_t = a]$. What is lost to ignorance in $T$ steps is the regret
# $T \max_a q_*(a) - \mathbb{E}\sum_t R_t$. Lai and Robbins (1985) proved that it cannot grow more slowly than $\log T$.
#
# **Values.** The mean of what an arm has paid needs no list of payments:
# $$Q_{n+1} = Q_n + \frac{1}{n}\,(R_n - Q_n).$$
# Every learning rule of this lab has this form: *new estimate = old estimate + step size × (target − old estimate)*.
# With a constant step size $\alpha$ instead of $1/n$ the estimate is a weighted mean,
# $$Q_{n+1} = (1-\alpha)^n Q_1 + \sum_{i=1}^n \alpha (1-\alpha)^{n-i} R_i,$$
# in which old payments fade. That is worse where arms stay as they are, and better where they change.
#
# **ε-greedy** pulls the arm with the highest $Q$, and with probability $\varepsilon$ any. It never stops exploring, and
# explores what it knows to be bad as often as what might be good.
#
# **An optimistic start** sets $Q_1$ far above any payment. Each pull disappoints, so all arms are tried several times
# by a rule that is greedy. The drive to explore is used up at the beginning: of no use where arms change later.
#
# **Upper confidence bounds** pull $\arg\max_a Q_t(a) + c \sqrt{\ln t / N_t(a)}$. The root is the width of an interval
# that shrinks with each pull and slowly widens while others are pulled.
#
# **Thompson sampling** keeps a posterior of each $q_*(a)$, draws one value from each, and pulls the arm whose draw is
# the highest. So each arm is pulled with the probability that it is the best one, given what was seen. With prior
# $N(m, s^2)$ and noise $\sigma^2$ the posterior after payments of sum $S$ in $n$ pulls is normal, with precision
# $1/s^2 + n/\sigma^2$ and mean $(m/s^2 + S/\sigma^2)$ divided by it.
#
# **Gradient bandits** have no values, but preferences $H$ and probabilities $\pi = \mathrm{softmax}(H)$. From
# $\nabla_H \mathbb{E}[R] = \mathbb{E}[(R - \bar R)\,\nabla_H \ln \pi(A)]$ and
# $\partial \ln \pi(A) / \partial H(a) = \mathbb{1}[a = A] - \pi(a)$ follows
# $$H_{t+1}(a) = H_t(a) + \alpha\,(R_t - \bar R_t)\,(\mathbb{1}[a = A_t] - \pi_t(a)).$$
# The baseline $\bar R_t$ does not change the mean of the step, since $\mathbb{1}[a = A] - \pi(a)$ has mean 0. It
# changes its variance. PPO, at the end of this road, is this rule with states, a learned baseline, and care about the
# length of a step.

# %% [markdown]
# ## Two steps by hand
#
# Two arms, $\alpha = 0.5$. The first reward is its own baseline. The second, 3, is 2 above the mean so far, so
# $H = (0, 0) + 0.5 \cdot 2 \cdot (-0.5, +0.5)$.

# %%
small = GradientBandit(2, step_size=0.5)
small.update(0, 1.0)
small.update(1, 3.0)
print(small.preferences, small.probabilities())

# %% [markdown]
# ## Run
#
# The testbed: ten arms, $q_*(a) \sim N(0, 1)$, rewards $N(q_*(a), 1)$. All runs of a bandit go through one array,
# so 2,000 runs of 1,000 steps take a second or two.

# %%
courses = compete(ENTRIES, SETTINGS)

# %% [markdown]
# ## Results
#
# Last tenth of the steps, beside what an independent implementation measured.

# %%
print(f"{'':28}{'reward':>8} ± s.e.{'published':>11}{'best arm':>11}{'published':>11}")
for name, reward, optimal, _ in PUBLISHED:
    found = summary(courses[name])
    print(f"{name:28}{found['reward']:8.3f} ± {found['reward_standard_error']:.3f}{reward:10.2f}"
          f"{found['optimal']:11.1%}{optimal / 100:11.0%}")  # fmt: skip

# %%
for title, entries in FIGURES.values():
    curves({name: courses[name] for name in entries}, title).show()

# %% [markdown]
# - Greedy settles early, in most runs on an arm that is not the best. ε = 0.01 will overtake ε = 0.1 after the picture
#   ends.
# - The optimistic bandit has a spike at step 11: each arm has been tried once, and 40% of the runs choose the best.
# - UCB has a spike at step 11 in its reward for the same reason.
# - Without a baseline, rewards of about 4 make every arm that was pulled more likely, whatever it paid.
# - Thompson sampling knows the law of the arms and of the noise, and is ahead of the others as they are set here. They
#   were told less; UCB with a c of 1/2 or 1 catches up with it (below).
# - Where arms change, the sample average grows stiff. It never stops believing what it learned first.

# %% [markdown]
# ## Sensitivity
#
# How much depends on the parameter? Mean reward over all steps, each parameter on a scale of powers of two (figure 2.6;
# Thompson sampling added). A curve that is flat at the top forgives a bad guess.

# %%
parameters(sweep(STUDY, SETTINGS), "Figure 2.6: the parameter study").show()

# %% [markdown]
# Where arms change, the step size decides how long the past counts: too small, and the bandit lives in the past; too
# large, and it believes the noise. Faster arms call for a larger one.

# %%
STEP_SIZES = (0.01, 0.1, 0.5) if SHORT else (0.01, 0.03, 0.1, 0.2, 0.4, 0.8)
WALKS = {"walk 0.01": WALKING, "walk 0.05": Testbed(spread=0.0, walk=0.05)}
followers = {
    (walk, step_size): Entry(partial(EpsilonGreedy, epsilon=0.1, initial=0.0, step_size=step_size), testbed)
    for walk, testbed in WALKS.items()
    for step_size in STEP_SIZES
}
late = {place: course.late.optimal.mean() for place, course in compete(followers, SETTINGS).items()}
figure = parameters(
    {walk: {a: 100 * late[walk, a] for a in STEP_SIZES} for walk in WALKS}, "Step size on arms that walk"
)
figure.update_xaxes(title="α", tickvals=STEP_SIZES, ticktext=[str(a) for a in STEP_SIZES])
figure.update_yaxes(title="Best arm chosen in the last tenth, %").show()

# %% [markdown]
# Thompson sampling can forget, too: with `discount` every update takes a little off the weight of the past, so that the
# posterior of an arm that is left alone widens again, and it is tried again.

# %%
forgetful = {
    "for ever": Entry(GaussianThompson, WALKING),
    "discount 0.999": Entry(partial(GaussianThompson, discount=0.999), WALKING),
    "discount 0.99": Entry(partial(GaussianThompson, discount=0.99), WALKING),
}
curves(compete(forgetful, SETTINGS), "Thompson sampling on arms that change").show()

# %% [markdown]
# ## Where it is used: routing
#
# In the chat the arms are versions of the model, and a reward is a thumb: 1 or 0. The bandits below are those that the
# server routes by, with its settings. Thompson sampling keeps a Beta posterior of each version here: with a uniform
# prior, and $S$ thumbs up among $n$, it is $\mathrm{Beta}(1 + S,\, 1 + n - S)$.
#
# What is counted is the pseudo-regret $\sum_t \mu^* - \mu_{A_t}$, with $\mu$ the rates and $\mu^*$ the best one: thumbs
# lost by the choice, without the luck of each thumb. With $\Delta_a = \mu^* - \mu_a$, three things are known before
# anything is run.
#
# - **An even split** over $K$ versions loses $\frac{1}{K} \sum_a \Delta_a$ a step, for ever.
# - **UCB1** loses at most
#   $8 \sum_{a:\,\Delta_a > 0} \frac{\ln n}{\Delta_a} + \left(1 + \frac{\pi^2}{3}\right) \sum_a \Delta_a$ in $n$ steps
#   on average (Auer, Cesa-Bianchi and Fischer 2002, theorem 1).
# - **No policy** that does well on all rates has a regret that grows in the end by less than
#   $\sum_{a:\,\Delta_a > 0} \Delta_a / \mathrm{KL}(\mu_a, \mu^*)$ while $\ln t$ grows by 1 (Lai and Robbins 1985),
#   where $\mathrm{KL}(p, q) = p \ln \frac{p}{q} + (1 - p) \ln \frac{1 - p}{1 - q}$. Thompson sampling reaches this
#   slope (Kaufmann, Korda and Munos 2012).
#
# The ten rates are those of figure 2 of Garivier and Cappé (2011).

# %%
played = route(PROBLEMS, *ROUTING)
steady = {name: problem for name, problem in PROBLEMS.items() if not problem.versions.swaps}
for name, problem in steady.items():
    rates = problem.versions.rates
    print(f"{problem.title}: slope of Lai and Robbins {lai_robbins(rates):.2f}, "
          f"bound of UCB1 {auer_bound(rates, SETTINGS.route_steps):.0f}")  # fmt: skip
    for policy, course in played[name].items():
        print(f"  {policy:16}regret {course.regrets.mean():7.1f} ± {course.regrets.std() / SETTINGS.runs**0.5:.1f}, "
              f"growth by ln t {growth(course.regret):7.2f}")  # fmt: skip

# %%
regrets(steady, played).show()

# %% [markdown]
# - On a scale of logarithms what grows like $\ln t$ is a straight line. The dashed line is a slope, not a floor: regret
#   may lie below it at any $t$, and be flatter for long, as Thompson's is on two versions, but cannot stay flatter.
# - ε-greedy bends upwards. Its share of random choices costs as much at the end as at the beginning. On ten versions it
#   is ahead of Thompson sampling up to 2,000 judgements all the same.
# - Of ten versions the bound of UCB1 says nothing yet: it is above what the worst of all policies could lose in so few
#   steps. UCB1 itself hardly gains on an even split there. Its interval holds for all rates alike, and near 0, where
#   thumbs vary little, it is far too wide.

# %%
shares(played["swap"], PROBLEMS["swap"].title).show()

# %% [markdown]
# After the swap plain Thompson sampling has thousands of thumbs to outweigh. With a discount, or in a window, it turns
# round within a few hundred judgements, and pays for that before the swap, where it never quite stops asking. How long
# should it remember? Too short, and it never learns; too long, and it learns too late. `routing.discount` and
# `routing.window` are these settings of the server.

# %%
DISCOUNTS = (0.9, 0.99) if SHORT else (0.9, 0.97, 0.99, 0.997, 0.999, 1.0)
remembering = {str(d): partial(ThompsonSampling, discount=d) for d in DISCOUNTS}
pair = {str(swaps): Problem("", Bernoulli((0.4, 0.6), swaps=swaps), remembering) for swaps in (False, True)}
forgot = route(pair, *ROUTING)
for name, course in forgot["True"].items():
    print(f"discount {name:6} regret {course.regrets.mean():7.1f} with the swap, "
          f"{forgot['False'][name].regrets.mean():7.1f} without")  # fmt: skip
