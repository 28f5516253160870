"""Every bandit that learns from any reward, small."""

from rlhf.bandits import UCB, EpsilonGreedy, GaussianThompson, GradientBandit

ARMS = 3
KINDS = {
    "means": lambda **given: EpsilonGreedy(ARMS, 0.2, initial=0.0, **given),
    "step size": lambda **given: EpsilonGreedy(ARMS, 0.2, step_size=0.3, initial=2.0, **given),
    "ucb": lambda **given: UCB(ARMS, 1.5, **given),
    "ucb, step size": lambda **given: UCB(ARMS, 1.5, step_size=0.3, initial=0.0, **given),
    "thompson": lambda **given: GaussianThompson(ARMS, 0.7, **given),
    "gradient": lambda **given: GradientBandit(ARMS, 0.3, **given),
    "gradient, no baseline": lambda **given: GradientBandit(ARMS, 0.3, baseline=False, **given),
}


def after(bandit, *history):
    """The bandit, having learned from (arm, reward) after (arm, reward)."""
    for arm, reward in history:
        bandit.update(arm, reward)
    return bandit
