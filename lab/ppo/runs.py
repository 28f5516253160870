"""One training of one task with one seed, as a figure needs it.

run = trained("CartPole-v1", seed=0)
run.evaluation                                   # returns of 100 fresh episodes
run.curve                                        # mean return of the training episodes that ended since the last point
"""

from lab.ppo.learner import train
from lab.ppo.policy import Policy
from lab.ppo.settings import Settings, usual
from lab.runs import Run, judged, side_by_side
from rlhf.errors import UserError
from rlhf.stopwatch import now


def trained(task: str, seed: int, settings: Settings | None = None, episodes: int = 100) -> Run:
    """Train, then evaluate what training ended with.

    Args:
        task: an environment of Gymnasium.
        seed: of training.
        settings: default: the usual ones of the task.
        episodes: of the evaluation.
    """
    settings = settings or usual(task)
    began = now()
    training = train(side_by_side(task, settings.environments), settings, seed)
    return judged(training.agent, task, seed, episodes, training.episodes, settings.taken, now() - began)


def check(task: str, settings: Settings) -> None:
    """Refuse what cannot be learned, before anything is trained.

    Raises:
        UserError: no such environment, a package that it needs is missing, spaces that PPO does not know, or fewer
            steps than it takes before the first update.
    """
    rollout = settings.horizon * settings.environments
    if settings.steps < rollout:
        raise UserError(f"PPO would learn nothing on {task}.", found=f"{settings.steps} steps",
                        expected=f"at least one rollout: horizon {settings.horizon} x environments "
                                 f"{settings.environments} = {rollout}")  # fmt: skip
    seen = side_by_side(task, 1)
    shape = seen.single_observation_space.shape
    assert shape is not None
    Policy(shape[0], seen.single_action_space, settings, seed=0)
    seen.close()
