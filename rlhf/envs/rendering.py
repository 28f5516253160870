"""Render modes: which there are, and what is said where one is missing."""

from collections.abc import Sequence

import gymnasium
from gymnasium.envs.registration import EnvSpec

from rlhf.errors import UserError


class NoSuchRenderMode(UserError, TypeError):
    """A `TypeError`, too: where one says so, Stable-Baselines3's `make_vec_env` does without its "rgb_array"."""


def refuse_other_modes(render_mode: str | None, known: Sequence[str]) -> None:
    """Raises `NoSuchRenderMode` for a mode that is neither None nor known."""
    if render_mode not in (None, *known):
        raise NoSuchRenderMode(
            "There is no such render mode.", expected=f"{', '.join(known)} or None", found=repr(render_mode)
        )


def warn_of_no_mode(spec: EnvSpec | None) -> None:
    """As Gymnasium's own environments do where `render` is called without a render mode."""
    name = spec.id if spec else "rlhf/ChatToken-v0"
    gymnasium.logger.warn(
        "You are calling render method without specifying any render mode. "
        f'You can specify the render_mode at initialization, e.g. gym.make("{name}", render_mode="ansi")'
    )
