"""Many conversations as one vectorised Gymnasium environment, read, written and scored together.

For features, a step takes two passes through the network at most: one for all conversations that grew by a token, one
for all that are read from their beginning (`rlhf.envs.reader`). Replies to parameters take such passes for each token.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from rlhf.envs.actions import valid
from rlhf.envs.observing import View
from rlhf.envs.rendering import refuse_other_modes, warn_of_no_mode
from rlhf.envs.single import the_world
from rlhf.envs.spec import SharedWorldSpec
from rlhf.envs.stage import Action, Stage, Step
from rlhf.envs.world import World
from rlhf.errors import UserError

Steps = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class ChatVectorEnvironment(SharedWorldSpec, gymnasium.vector.VectorEnv[Any, Any, NDArray[Any]]):
    """`num_envs` conversations that go on together; step by step what as many single environments would give.

    A conversation that is over begins anew with the next step, whose action for it is not looked at: Gymnasium's
    next-step autoreset. That transition must not be learned from.

    Args:
        num_envs: how many.
        action, observation, world, made_of: as for `ChatEnvironment`.
        render_mode: None or "ansi".

    Raises:
        UserError: as `ChatEnvironment`.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": ["ansi"]}

    def __init__(
        self,
        num_envs: int = 1,
        action: Action = "token",
        observation: View = "ids",
        render_mode: str | None = None,
        world: World | None = None,
        **made_of: Any,
    ) -> None:
        if num_envs < 1:
            raise UserError("num_envs is out of range.", expected="at least 1", found=str(num_envs))
        refuse_other_modes(render_mode, self.metadata["render_modes"])
        super().__init__(the_world(world, made_of), made_of)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.stage = Stage(self.world, action, observation, num_envs)
        self.single_observation_space = self.stage.observer.space
        self.single_action_space = self.stage.kind.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        drawn = [seeding.np_random() for _ in range(num_envs)]
        self._luck: list[np.random.Generator] = [luck for luck, _ in drawn]
        self._seeds = [seed for _, seed in drawn]

    @property  # type: ignore[misc]  # a tuple, as SyncVectorEnv has it
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random numbers of each conversation."""
        return tuple(self._luck)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each conversation's random numbers."""
        return tuple(self._seeds)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin all conversations; a single seed counts up from the first to the last.

        `options={"reset_mask": mask}`, (num_envs,) and true where a conversation shall begin anew, leaves the others
        as they are; other options are as for `ChatEnvironment`.

        Raises:
            UserError: a list of another number of seeds, a mask of another kind or without a conversation to begin,
                one before all have begun, or other options.
        """
        options = dict(options or {})
        chosen = self._chosen(options.pop("reset_mask")) if "reset_mask" in options else range(self.num_envs)
        seeds = [seed + slot for slot in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise UserError("There must be a seed for each conversation.", expected=str(self.num_envs),
                            found=str(len(seeds)))  # fmt: skip
        infos: dict[str, Any] = {}
        for slot in chosen:
            if seeds is not None and seeds[slot] is not None:
                self._luck[slot], self._seeds[slot] = seeding.np_random(seeds[slot])
            infos = self._add_info(infos, self.stage.begin(slot, self._luck[slot], options), slot)
        return self._observations(), infos

    def _chosen(self, mask: Any) -> list[int]:
        fits = isinstance(mask, np.ndarray) and mask.shape == (self.num_envs,) and mask.dtype == np.bool_
        if not fits or not mask.any():
            raise UserError("reset_mask does not say which conversations begin anew.", found=repr(mask),
                            expected=f"an array of {self.num_envs} booleans, at least one of them true")  # fmt: skip
        self._need_talks()
        return [int(slot) for slot in np.flatnonzero(mask)]

    def _need_talks(self) -> None:
        if not self.stage.talks:
            raise UserError("There are no conversations to go on with.", remedy="call reset() first")

    def step(self, actions: Any) -> Steps:
        """Take an action in each conversation that is not over, and begin the others anew.

        Raises:
            UserError: another number of actions, one that is not in the space, a reward function failed, or `reset` was
                not called, at all or after such a failure.
        """
        self._need_talks()
        going = [slot for slot, talk in self.stage.talks.items() if not talk.over]
        batch = self._each(actions)
        given = [valid(self.single_action_space, batch[slot]) for slot in going]  # before anything happens
        found = {slot: Step(0.0, False, False, self.stage.begin(slot, self._luck[slot]))
                 for slot in range(self.num_envs) if slot not in going}  # fmt: skip
        steps = self.stage.step(going, given, [self._luck[slot] for slot in going])
        found |= dict(zip(going, steps, strict=True))
        infos: dict[str, Any] = {}
        for slot in range(self.num_envs):
            infos = self._add_info(infos, found[slot].info, slot)
        ordered = [found[slot] for slot in range(self.num_envs)]
        terminated, truncated = (np.array([one[part] for one in ordered], dtype=bool) for part in (1, 2))
        return self._observations(), np.array([one.reward for one in ordered]), terminated, truncated, infos

    def _each(self, actions: Any) -> list[Any]:
        try:
            batch = list(iterate(self.action_space, actions))
        except TypeError:  # of no batch at all
            batch = []
        if len(batch) != self.num_envs:
            raise UserError("There must be an action for each conversation.", expected=str(self.num_envs),
                            found=f"{len(batch)}, in {actions!r}")  # fmt: skip
        return batch

    def render(self) -> tuple[Any, ...] | None:
        """The conversations so far, a text each; None, and Gymnasium's warning, without a render mode."""
        if self.render_mode is None:
            warn_of_no_mode(self.spec)
            return None
        return tuple(talk.text() for talk in self.stage.talks.values())

    def action_masks(self) -> NDArray[np.bool_]:
        """(num_envs, actions), true for those that are allowed. Raises `UserError` as that of `ChatEnvironment`."""
        found = [self.stage.kind.mask(talk) for talk in self.stage.talks.values()]
        masks = [mask for mask in found if mask is not None]
        if not masks:
            raise UserError("There are no action masks.", expected="conversations whose actions are tokens or replies",
                            remedy="call reset() first, or do without masks")  # fmt: skip
        return np.stack(masks)

    def _observations(self) -> Any:
        space = self.single_observation_space
        room: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, self.stage.observe(), room)
