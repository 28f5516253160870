"""The environments as RL libraries see them."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlhf.env import IDS, ChatEnvironment, ChatVectorEnvironment, World, make_world
from rlhf.errors import UserError
from rlhf.tokenizer import decode_reply
from tests.env_world import END, letters, play, small, small_world, spell

VIEWS = ("ids", "features")
NAMES = tuple(IDS.values())


@pytest.fixture(scope="module")
def world() -> World:
    return small_world()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*observation space m.*value is.*infinity")
def test_gymnasium_and_stable_baselines_accept_it(world, name, view):
    from stable_baselines3.common.env_checker import check_env as check_for_stable_baselines

    env = gymnasium.make(name, world=world, observation=view)
    check_env(env.unwrapped)
    check_for_stable_baselines(env.unwrapped)


def test_it_is_made_of_what_is_given():
    model, tokenizer = small()
    env = gymnasium.make(
        IDS["token"], model=model, tokenizer=tokenizer, prompts=["Hi"], reward="distinct", max_reply_tokens=3
    )
    assert isinstance(env.unwrapped, ChatEnvironment)
    assert env.action_space == gymnasium.spaces.Discrete(len(tokenizer))
    env.reset(seed=0)


def test_tokens_are_rewarded_when_the_reply_is_whole(world):
    env = ChatEnvironment("token", world=world)
    env.reset(seed=0)
    steps = play(env, [*spell("aba"), END])
    assert [reward for reward, *_ in steps] == [0, 0, 0, 2]
    assert [terminated for _, terminated, *_ in steps] == [False, False, False, True]
    assert not any(truncated for _, _, truncated, _ in steps)
    info = steps[-1][-1]
    assert info["reply"] == "aba" and info["ended"] and info["rewards"] == {"letters": 2.0}


def test_a_cut_reply_costs_the_penalty():
    env = ChatEnvironment("token", world=small_world(max_reply_tokens=3, missing_eos_penalty=0.5))
    env.reset(seed=0)
    assert [step[0] for step in play(env, spell("aaa"))] == [0, 0, 2.5]


def test_each_reply_of_a_conversation_is_rewarded():
    env = ChatEnvironment("token", world=small_world(user=["Go on"]))
    env.reset(seed=0)
    steps = play(env, [*spell("aa"), END, *spell("a"), END])
    assert [step[0] for step in steps] == [0, 0, 2, 0, 1]
    assert [step[1] for step in steps] == [False] * 4 + [True]


def test_observed_ids_are_the_conversation_and_the_pad(world):
    env = ChatEnvironment("token", world=world)
    observation, info = env.reset(options={"prompt": 2})
    asked = world.encoded[2]
    assert info["prompt"] == world.prompts[2].id
    observation, *_ = env.step(spell("a")[0])
    ids, length = observation["ids"], int(observation["length"][0])
    assert ids[:length].tolist() == [*asked, *spell("a")]
    assert set(ids[length:].tolist()) == {small()[1].pad_token_id} and len(ids) == world.context


def test_observed_features_become_the_models_logits(world):
    env = ChatEnvironment("token", "features", world=world)
    observation, _ = env.reset(options={"prompt": 1})
    with torch.no_grad():
        wanted = small()[0](input_ids=torch.tensor([world.encoded[1]])).logits[0, -1]
    found = small()[0].lm_head.weight.detach() @ torch.from_numpy(observation)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_a_whole_reply_is_one_step(world):
    env = ChatEnvironment("reply", world=world)
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(env.encode_reply("aha"))
    assert (reward, terminated, info["reply"], info["ended"]) == (2.0, True, "aha", True)


def test_cold_parameters_write_what_the_model_finds_likeliest(world):
    env = ChatEnvironment("parameters", world=world)
    env.reset(options={"prompt": 0})
    _, _, _, _, info = env.step(np.array([-1, 1, 1]))  # temperature 0, six tokens
    ids = list(world.encoded[0])
    for _ in range(6):
        with torch.no_grad():
            logits = small()[0](input_ids=torch.tensor([ids])).logits[0, -1]
        logits[torch.from_numpy(~world.sayable)] = -torch.inf
        ids.append(int(logits.argmax()))
    assert info["reply"] == decode_reply(small()[1], ids[len(world.encoded[0]) :])


def test_a_reply_is_cut_where_the_parameters_say(world):
    env = ChatEnvironment("parameters", world=world)
    for number, length in enumerate([-1, -0.2, 1]):
        env.reset(options={"prompt": 0})
        _, _, terminated, _, info = env.step(np.array([-1, 1, length]))
        before = len(world.encoded[0])
        assert terminated and not info["ended"] and len(env.stage.talks[0].ids) - before == [1, 3, 6][number]


def test_parameters_are_what_the_numbers_stand_for(world):
    kind = ChatEnvironment("parameters", world=world).stage.kind
    assert kind.parameters(np.array([-1, -1, -1])) == (0.0, pytest.approx(0.05), 1)
    assert kind.parameters(np.array([0, 0, 0])) == (1.0, pytest.approx(0.525), 1 + round(2.5))
    assert kind.parameters(np.array([1, 1, 1])) == (2.0, 1.0, 6)


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_episodes(world, name):
    def episode(seed: int) -> list:
        env = gymnasium.make(name, world=world)
        env.action_space.seed(seed)
        seen, over = [env.reset(seed=seed)[1]["prompt"]], False
        while not over:
            observation, reward, over, _, _ = env.step(env.action_space.sample())
            seen += [observation["ids"].tolist(), reward]
        return seen

    assert episode(3) == episode(3)
    assert any(episode(3) != episode(seed) for seed in range(4, 8))


def summed(completion_ids, **columns):
    """Almost never the same for two replies, and never 0."""
    return [float(sum(ids)) for ids in completion_ids]


@pytest.mark.parametrize("changes", [{}, {"user": ("Go on", "Why?"), "context": 24}], ids=["one_turn", "three_turns"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", NAMES)
def test_vectorised_and_single_ones_agree_step_by_step(name, view, changes):
    """Random actions, ends of sequence among them, over several episodes of each of three environments.

    A context of 24 tokens has room for three turns where replies are short, and for fewer where they are not.
    """
    made = {"world": small_world(reward=summed, **changes), "observation": view, "render_mode": "ansi"}
    together = gymnasium.make_vec(name, 3, **made)
    apart = SyncVectorEnv([lambda: gymnasium.make(name, **made)] * 3)
    assert isinstance(together.unwrapped, ChatVectorEnvironment)
    assert together.single_action_space == apart.single_action_space
    compare(together.reset(seed=11), apart.reset(seed=11))
    together.action_space.seed(0)
    seen = []
    for number in range(30):
        actions = together.action_space.sample()
        if name == IDS["token"] and number % 3 == 0:
            actions[number % 2] = END
        elif name == IDS["reply"]:
            actions[:2, 1] = END
        found = together.step(actions)
        compare(found, apart.step(actions))
        assert together.render() == apart.render()
        seen.append(np.array(found[1:4]).T)  # a row of reward, terminated, truncated for each conversation
    rewards, terminated, truncated = np.concatenate(seen).T
    assert len(set(rewards)) > 5 and terminated.any()
    assert truncated.any() == bool(changes)
    assert ((rewards != 0) & (terminated + truncated == 0)).any() == bool(changes)  # a turn that is not the last


@pytest.mark.parametrize("view", VIEWS)
def test_some_begin_anew_as_gymnasium_has_it(world, view):
    """Of three conversations the first is over, the second goes on; the first and the last begin anew."""
    together = ChatVectorEnvironment(3, "token", view, world=world)
    apart = SyncVectorEnv([lambda: ChatEnvironment("token", view, world=world)] * 3)
    a, b = spell("ab")
    for envs in (together, apart):
        envs.reset(seed=5)
        envs.step(np.array([END, a, a]))
    mask = np.array([True, False, True])
    found, wanted = (
        envs.reset(seed=[7, 8, None], options={"reset_mask": mask, "prompt": 1}) for envs in (together, apart)
    )
    compare(found, wanted)
    assert [talk.reply for talk in together.stage.talks.values()] == [[], [a], []]
    for actions in ([b, END, END], [b, a, a], [END, END, END]):
        compare(together.step(np.array(actions)), apart.step(np.array(actions)))


def compare(found, wanted) -> None:
    """Equal but for rounding; of masks in infos, all."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            compare(found[key], wanted[key])
    elif isinstance(wanted, tuple):
        for one, other in zip(found, wanted, strict=True):
            compare(one, other)
    elif wanted.dtype == object:
        assert found.tolist() == wanted.tolist()
    else:
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_vectorised_step_after_the_end_only_begins_anew(world):
    envs = ChatVectorEnvironment(2, "token", world=world)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    envs.reset(seed=0)
    a = spell("a")[0]
    envs.step(np.array([a, a]))
    _, rewards, terminated, _, _ = envs.step(np.array([END, a]))
    assert rewards.tolist() == [1, 0] and terminated.tolist() == [True, False]
    observation, rewards, terminated, _, infos = envs.step(np.array([a, a]))
    assert rewards.tolist() == [0, 0] and not terminated.any()
    assert observation["length"][0] == len(world.encoded[[p.id for p in world.prompts].index(infos["prompt"][0])])
    assert infos["_prompt"].tolist() == [True, False]


@pytest.mark.parametrize("action", [-1, 10_000, 1.5, "a", None, [1, 2]])
def test_an_action_that_is_not_in_the_space_is_refused(world, action):
    env = ChatEnvironment("token", world=world)
    env.reset(seed=0)
    with pytest.raises(UserError, match="not in the action space"):
        env.step(action)


@pytest.mark.parametrize("action", [[2, 0, 0], [0, 0], [np.nan, 0, 0], "hot"])
def test_parameters_out_of_range_are_refused(world, action):
    env = ChatEnvironment("parameters", world=world)
    env.reset(seed=0)
    with pytest.raises(UserError, match="not in the action space"):
        env.step(action)


def test_a_bad_action_among_good_ones_changes_nothing(world):
    envs = ChatVectorEnvironment(2, "token", world=world)
    envs.reset(seed=0)
    before = [list(talk.ids) for talk in envs.stage.talks.values()]
    with pytest.raises(UserError, match="not in the action space"):
        envs.step(np.array([spell("a")[0], world.vocabulary]))
    assert [talk.ids for talk in envs.stage.talks.values()] == before


@pytest.mark.parametrize("actions", [[0], [0, 0, 0], 0, None])
def test_a_batch_has_an_action_for_each_conversation(world, actions):
    envs = ChatVectorEnvironment(2, "token", world=world)
    envs.reset(seed=0)
    with pytest.raises(UserError, match="an action for each conversation"):
        envs.step(np.array(actions))


def test_steps_before_the_beginning_and_after_the_end_are_refused(world):
    env = ChatEnvironment("token", world=world)
    for _ in range(2):
        with pytest.raises(UserError, match="no conversation to go on with"):
            env.step(0)
        env.reset(seed=0)
        env.step(END)
    with pytest.raises(UserError, match="reset"):
        ChatVectorEnvironment(2, world=world).step(np.zeros(2, int))


@pytest.mark.parametrize("failing", ["reward", "user"])
def test_after_a_failure_all_conversations_begin_anew(failing):
    """The first of two conversations is over when the function fails, or in the middle of a turn."""

    def fails(*messages, **columns):
        raise RuntimeError("out of order")

    made = {"observation": "features", "world": small_world(**{failing: fails})}
    single, several = ChatEnvironment("token", **made), ChatVectorEnvironment(2, "token", **made)
    for env, actions in ((single, END), (several, np.array([END, spell("a")[0]]))):
        fresh, _ = env.reset(seed=0)
        with pytest.raises((RuntimeError, UserError), match="out of order"):
            env.step(actions)
        with pytest.raises(UserError, match=r"(?s)to go on with.*call reset\(\) first"):
            env.step(actions)
        compare(env.reset(seed=0)[0], fresh)
        going = env.step(spell("a")[0] if env is single else np.array(spell("ab")))
        assert not np.any(going[2])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"action": "word"}, "no action='word'"),
        ({"observation": "text"}, "no observation='text'"),
        ({"render_mode": "rgb_array"}, "no such render mode"),
        ({"prompts": ["Hi"]}, "A world is whole"),
    ],
)
def test_unknown_arguments_are_refused(world, made, message):
    with pytest.raises(UserError, match=message):
        ChatEnvironment(world=world, **made)


def test_without_a_model_there_are_ids_and_no_features():
    made = make_world(tokenizer=small()[1], prompts=["Hi"], reward=letters)
    ChatEnvironment("reply", world=made).reset(seed=0)
    for bad in ({"observation": "features"}, {"action": "parameters"}):
        with pytest.raises(UserError, match="needs a language model"):
            ChatEnvironment(world=made, **bad)
