"""What is shown of conversations, and where."""

import gymnasium
import pytest

from rlhf.env import IDS, ChatEnvironment, ChatVectorEnvironment, World
from rlhf.errors import UserError
from tests.env_world import END, small_world, spell


@pytest.fixture(scope="module")
def world() -> World:
    return small_world()


def test_a_conversation_as_text(world):
    env = ChatEnvironment("token", "ids", "ansi", world)
    assert env.render() == ""
    env.reset(options={"prompt": 0})
    env.step(spell("a")[0])
    assert env.render() == "user: The cat\nassistant: a…"


def test_each_turn_is_printed_once_whether_or_not_it_is_asked_for(world, capsys):
    env = gymnasium.make(IDS["token"], world=world, render_mode="human")
    env.reset(options={"prompt": 0})
    for token in [*spell("ab"), END]:
        env.step(token)
        assert env.render() is None
    assert capsys.readouterr().out == "user: The cat\nassistant: ab\n"


@pytest.mark.parametrize("make", [gymnasium.make, lambda name, **made: gymnasium.make_vec(name, 2, **made)])
def test_without_a_mode_there_is_gymnasiums_warning(world, make):
    env = make(IDS["reply"], world=world)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match=r"(?s)without specifying any render mode.*rlhf/ChatReply-v0.*ansi"):
        assert env.unwrapped.render() is None


def test_a_vectorised_one_is_rendered_as_texts_or_not_at_all(world):
    envs = ChatVectorEnvironment(2, world=world, render_mode="ansi")
    envs.reset(options={"prompt": 2})
    assert envs.render() == ("user: Paris\nassistant: …",) * 2
    with pytest.raises(UserError, match="(?s)no such render mode.*ansi or None"):
        ChatVectorEnvironment(2, world=world, render_mode="human")
