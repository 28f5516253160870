"""The configuration of rewards: short forms, what is refused and how, the round trip."""

import pytest

from rlhf.config import load_config, save_config
from rlhf.errors import UserError
from rlhf.rewards.specs import CompositeSpec, FunctionSpec, LengthSpec, every, rewards_adapter, uses_model
from tests.conftest import small_config


def rewards(given):
    return small_config(ppo={"rewards": given}).ppo.rewards


def test_the_learned_reward_model_alone_is_the_default():
    (only,) = small_config().ppo.rewards
    assert (only.reward, only.weight, only.name) == ("model", 1.0, "model")
    assert rewards("model") == rewards(["model"]) == rewards({"reward": "model"}) == [only]


def test_a_name_with_a_dot_is_a_function_and_is_logged_by_its_last_part():
    function, named = rewards(
        ["my.rewards.polite", {"reward": "my.rewards.polite", "name": "again", "args": {"a": [1]}}]
    )
    assert isinstance(function, FunctionSpec) and function.name == "polite"
    assert (named.name, named.args) == ("again", {"a": [1]})


def test_rewards_within_composites_count():
    nested = {
        "reward": "composite",
        "parts": ["distinct", {"reward": "composite", "name": "inner", "parts": ["model"]}],
    }
    given = rewards([{"reward": "length", "words": [1, 2]}, nested])
    assert isinstance(given[0], LengthSpec) and isinstance(given[1], CompositeSpec)
    assert [spec.name for spec in every(given)] == ["length", "composite", "distinct", "inner", "model"]
    assert uses_model(given) and not uses_model(given[:1])


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("lenght", "did you mean length? (a function of your own needs its module, too: my_rewards.lenght)"),
        ([], "at least 1 item"),
        (5, "ppo.rewards: Input should be a valid list"),
        ([5], "ppo.rewards.0"),
        ([{"weight": 1}], "needs the key reward"),
        (["model", "model"], "two rewards are called 'model'"),
        (["a.f", "b.f"], "two rewards are called 'f'"),
        ([{"reward": "model", "normalise": True}], "unknown key normalise of the reward model"),
        ([{"reward": "length", "wrds": [1, 2]}], "unknown key wrds of the reward length; did you mean words?"),
        ([{"reward": "length", "words": [9, 2]}], "[fewest, most]"),
        ([{"reward": "length"}], "ppo.rewards.0.words: Field required"),
        ([{"reward": "relevance"}], "ppo.rewards.0.path: Field required"),
        ([{"reward": "distinct", "weight": float("nan")}], "finite"),
        ([{"reward": "distinct", "name": "a/b"}], "ppo.rewards.0.name"),
        ([{"reward": "composite", "parts": []}], "at least 1 item"),
        ([{"reward": "composite", "parts": ["distinct", "distinct"]}], "two rewards are called 'distinct'"),
        ([{"reward": "composite", "parts": [{"reward": "distinct", "weight": -1}]}], "weights of 0 or more"),
        ([{"reward": "composite", "parts": [{"reward": "distinct", "weight": 0}]}], "not all of them 0"),
    ],
)
def test_what_makes_no_sense_is_refused(given, part):
    with pytest.raises(UserError) as refused:
        rewards(given)
    assert part in str(refused.value)


def test_all_kinds_are_saved_and_read_back_equal(tmp_path):
    config = small_config(
        ppo={
            "rewards": [
                {"reward": "composite", "weight": 2, "parts": [
                    {"reward": "relevance", "path": "some/model"}, {"reward": "coherence", "weight": 0.5}, "distinct",
                ]},
                {"reward": "classifier", "path": "some/other", "label": 1, "max_tokens": 9},
                {"reward": "quality", "path": "ratings.jsonl", "embedder": "some/model"},
                {"reward": "length", "words": [3, 9], "name": "short"},
                {"reward": "my.function", "args": {"deep": {"er": [1, None]}}, "conversational": True},
                "model",
            ]
        }
    )  # fmt: skip
    save_config(config, tmp_path)
    again = load_config(tmp_path / "config.yaml")
    assert again == config
    assert [type(spec) for spec in every(again.ppo.rewards)] == [type(spec) for spec in every(config.ppo.rewards)]


def test_specs_are_read_without_a_whole_configuration():
    (length,) = rewards_adapter.validate_python([{"reward": "length", "words": [5, 40]}])
    assert isinstance(length, LengthSpec) and length.words == (5, 40)
