"""One conversation as a Gymnasium environment."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlhf.chat.terminal.screen import printable
from rlhf.envs.making import make_world
from rlhf.envs.observing import View
from rlhf.envs.rendering import refuse_other_modes, warn_of_no_mode
from rlhf.envs.spec import SharedWorldSpec
from rlhf.envs.stage import Action, Stage
from rlhf.envs.world import World
from rlhf.errors import UserError
from rlhf.tokenizer import encode_reply


class ChatEnvironment(SharedWorldSpec, gymnasium.Env[Any, Any]):
    """A conversation: the agent writes the assistant's replies, and each reply is rewarded when it is whole.

    Args:
        action: "token" (the next token), "reply" (a whole reply) or "parameters" (how the language model writes it);
            the registered names choose it.
        observation: "ids" or "features"; see `rlhf.envs.observing`.
        render_mode: None, "human" or "ansi".
        world: what conversations are made of (`make_world`), for several environments that share one.
        made_of: without a world, the arguments of `make_world`, such as `run` or `tokenizer`, `prompts`, `reward`.

    An episode ends (`terminated`) when the user has nothing more to say, also after a reply that was cut: that a reply
    has a limit is part of the task. It is `truncated` only where the user's next turn would not fit into the context.

    `info` has, after `reset`, the id of the prompt (`prompt`); after a step that ends a reply, its text (`reply`),
    whether it `ended` by itself, and `rewards`, each reward function's own value; and always `action_mask`, but for
    actions that are parameters.

    Raises:
        UserError: what `make_world` raises; an unknown action, observation or render mode; an argument beside `world`.
    """

    metadata = {"render_modes": ["human", "ansi"], "render_fps": 4}

    def __init__(
        self,
        action: Action = "token",
        observation: View = "ids",
        render_mode: str | None = None,
        world: World | None = None,
        **made_of: Any,
    ) -> None:
        refuse_other_modes(render_mode, self.metadata["render_modes"])
        super().__init__(the_world(world, made_of), made_of)
        self.render_mode = render_mode
        self.stage = Stage(self.world, action, observation, 1)
        self.observation_space, self.action_space = self.stage.observer.space, self.stage.kind.space
        self._shown = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a conversation; `options={"prompt": number}` chooses the prompt, else it is drawn."""
        super().reset(seed=seed)
        info = self.stage.begin(0, self.np_random, options)
        self._shown = 0
        self._show()
        return self.stage.observe()[0], info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action. Raises `UserError` if it is not in the space, or the conversation is over or not begun.

        After a reward or `user` function has failed, `reset` must be called.
        """
        talk = self.stage.talks.get(0)
        if talk is None or talk.over:
            raise UserError("There is no conversation to go on with.", remedy="call reset() first")
        (found,) = self.stage.step([0], [action], [self.np_random])
        self._show()
        return self.stage.observe()[0], found.reward, found.terminated, found.truncated, found.info

    def action_masks(self) -> NDArray[np.bool_]:
        """True for the actions that are allowed, as sb3-contrib's MaskablePPO asks for it.

        Raises:
            UserError: there is no conversation, or its actions are parameters, of which none is forbidden.
        """
        talk = self.stage.talks.get(0)
        mask = self.stage.kind.mask(talk) if talk else None
        if mask is None:
            raise UserError("There is no action mask.", expected="a conversation whose actions are tokens or replies",
                            remedy="call reset() first, or do without masks")  # fmt: skip
        return mask

    def encode_reply(self, text: str) -> NDArray[np.int64]:
        """The action of `rlhf/ChatReply-v0` that says a text; a longer one is cut.

        Raises:
            UserError: the actions are no replies.
        """
        space = self.action_space
        if not isinstance(space, gymnasium.spaces.MultiDiscrete):
            raise UserError("Only actions that are replies can be made from a text.", found=str(space))
        tokenizer = self.world.tokenizer
        action = np.full(self.world.max_reply_tokens, tokenizer.eos_token_id, dtype=np.int64)
        ids = encode_reply(tokenizer, text)[: len(action)]
        action[: len(ids)] = ids
        return action

    def render(self) -> str | None:
        """The conversation so far, for "ansi". None for "human", which has printed it already, turn by turn, and, with
        Gymnasium's warning, without a render mode.
        """
        if self.render_mode is None:
            warn_of_no_mode(self.spec)
            return None
        talk = self.stage.talks.get(0)
        text = talk.text() if talk else ""
        return text if self.render_mode == "ansi" else None

    def _show(self) -> None:
        """Print the turns that are whole and were not printed yet."""
        talk = self.stage.talks.get(0)
        if self.render_mode == "human" and talk is not None:
            turns = talk.messages
            for turn in turns[self._shown :]:
                print(f"{turn.role}: {printable(turn.content)}")
            self._shown = len(turns)


def the_world(world: World | None, made_of: dict[str, Any]) -> World:
    """The world that was given, or one made of the arguments. Raises `UserError` where both are given."""
    if world is None:
        return make_world(**made_of)
    if made_of:
        raise UserError("A world is whole: nothing can be given beside it.", found=", ".join(made_of),
                        remedy="give these to make_world")  # fmt: skip
    return world
