"""What a run folder gives: each version its own model, reward model and settings."""

import shutil

from transformers import GPTNeoForSequenceClassification

from reward_model import RewardModel
from rlhf.config import save_config
from rlhf.env import make_world
from rlhf.registry import Registry, Version
from tests.conftest import small_config
from tests.env_world import END, made_run, spell

GIVEN = {"device": "cpu", "prompts": ["The cat"]}


def test_a_version_is_rewarded_by_its_own_reward_model_and_as_it_was_configured(tmp_path):
    """The new version's reward model gives the negative of the old one's rewards."""
    judge, tokenizer = made_run(tmp_path)
    Registry(tmp_path).live()
    shutil.copytree(tmp_path / "sft", tmp_path / "versions/v1/ppo")
    save_config(small_config(ppo={"missing_eos_penalty": 0.25}), tmp_path / "versions/v1/ppo")
    shutil.copytree(tmp_path / "reward", tmp_path / "versions/v1/reward")
    other = GPTNeoForSequenceClassification.from_pretrained(tmp_path / "reward")
    other.score.weight.data.neg_()
    other.save_pretrained(tmp_path / "versions/v1/reward")
    Registry(tmp_path).register(Version("v1", "versions/v1/ppo", "versions/v1/reward", parent="sft"))

    live, v1 = make_world(tmp_path, **GIVEN), make_world(tmp_path, version="v1", **GIVEN)
    assert (live.missing_eos_penalty, v1.missing_eos_penalty) == (0, 0.25)
    reply = [*spell("ab"), END]
    wanted = float(RewardModel(judge, tokenizer.pad_token_id).score_ids([[*live.encoded[0], *reply]])[0])
    ours, others = (world.score([world.prompts[0]], [world.encoded[0]], [reply])[0][0] for world in (live, v1))
    assert abs(wanted) > 0.01 and abs(ours - wanted) < 1e-4 and abs(others + wanted) < 1e-4


def test_replies_are_as_long_as_ppos(tmp_path):
    """PPO's own limit goes before that of the data: 32 tokens of a prompt, and 5 or 12 of a reply."""
    for number, length in enumerate((5, 12)):
        made_run(tmp_path / str(number), ppo={"response_length": length})
        world = make_world(tmp_path / str(number), **GIVEN)
        assert (world.max_reply_tokens, world.context) == (length, 32 + length)
