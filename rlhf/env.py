"""The chat as a Gymnasium environment: any RL library can be pointed at it.

    import gymnasium
    import rlhf.env                                                              # registers the three below

    env = gymnasium.make("rlhf/ChatToken-v0", run="models/tiny")                 # an action is the next token
    env = gymnasium.make("rlhf/ChatReply-v0", run="models/tiny")                 # … a whole reply
    env = gymnasium.make("rlhf/ChatParameters-v0", run="models/tiny")            # … how the run's model shall reply
    envs = gymnasium.make_vec("rlhf/ChatToken-v0", num_envs=16, run="models/tiny", observation="features")

Without a run, give what it is made of: `tokenizer`, `prompts`, `reward` and, for features and parameters, `model`
(`make_world`). docs/env.md has the details; the parts are in `rlhf/envs`.
"""

import gymnasium

from rlhf.envs.making import make_world
from rlhf.envs.single import ChatEnvironment
from rlhf.envs.vector import ChatVectorEnvironment
from rlhf.envs.world import World

__all__ = ["IDS", "ChatEnvironment", "ChatVectorEnvironment", "World", "make_world"]

IDS = {"token": "rlhf/ChatToken-v0", "reply": "rlhf/ChatReply-v0", "parameters": "rlhf/ChatParameters-v0"}
"""What an action is → the registered name."""

for action, name in IDS.items():
    gymnasium.register(
        name,
        entry_point="rlhf.envs.single:ChatEnvironment",
        vector_entry_point="rlhf.envs.vector:ChatVectorEnvironment",
        kwargs={"action": action},
    )
