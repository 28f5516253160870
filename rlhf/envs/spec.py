"""What Gymnasium notes of how an environment was made: the world itself, where it was made of things in memory.

Gymnasium copies that note (`env.spec`) deeply whenever a wrapped environment is asked for it, and what was given to
`gymnasium.make` stands in it: without this, a language model would be copied each time. A world is never copied. What
can be written as JSON stays as it was given, so that `env.spec.to_json()` works for `run=`.
"""

import copy
import json
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import EnvSpec

from rlhf.envs.world import World


class SharedWorldSpec:
    """An environment whose `spec` makes another one of the same world.

    Args:
        world: what its conversations are made of.
        made_of: the arguments of `make_world` that it was made with; none where the world was given.
    """

    def __init__(self, world: World, made_of: dict[str, Any]) -> None:
        self.world, self._made_of = world, set(made_of)
        self._spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """With which `gymnasium.make(env.spec)` makes it again; None where it was not made by its name."""
        return self._spec

    @spec.setter
    def spec(self, given: EnvSpec | None) -> None:
        self._spec = copy.copy(given)  # the registered one stays as it is
        if self._spec is None:
            return
        kwargs = {name: str(value) if isinstance(value, Path) else value for name, value in self._spec.kwargs.items()}
        if not _is_json({name: value for name, value in kwargs.items() if name in self._made_of}):
            kwargs = {name: value for name, value in kwargs.items() if name not in self._made_of}
            kwargs["world"] = self.world
        self._spec.kwargs = kwargs


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
