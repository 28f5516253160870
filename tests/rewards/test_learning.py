"""PPO on rewards that are no network: what it is rewarded for rises, and each reward is logged by itself."""

import sys

import pytest
import torch

from rlhf.records import Prompt, ask
from rlhf.rewards.build import Workshop, build_rewards
from rlhf.rewards.specs import rewards_adapter
from rlhf.rewards.tokens import TokenRewards
from tests.ppo_world import make_trainer, watched

pytestmark = pytest.mark.slow

MODULE = "def vowels(completions, **kwargs):\n    return [sum(x in 'aeiou' for x in c) / 4 for c in completions]\n"


def test_a_function_and_a_composite_are_learned(tmp_path, start, tokenizer, monkeypatch):
    (tmp_path / "toy_rewards.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "toy_rewards", raising=False)
    parts = [{"reward": "length", "words": [3, 8]}, {"reward": "distinct", "weight": 0.5}]
    given = ["toy_rewards.vowels", {"reward": "composite", "weight": 2, "parts": parts}]
    rewards = build_rewards(rewards_adapter.validate_python(given), Workshop(torch.device("cpu")))
    rows = [Prompt(str(number), ask("?"), "", "toy") for number in range(64)]
    trainer = make_trainer(
        tmp_path, start, tokenizer, TokenRewards(rewards, rows, tokenizer), total_episodes=64 * 15,
        per_device_train_batch_size=64, gradient_accumulation_steps=1, num_mini_batches=2, learning_rate=2e-2,
        kl_coef=0.0, eval_steps=1000,
    )  # fmt: skip
    trainer.train_dataset = trainer.train_dataset.add_column("row", list(range(64)))
    trainer.eval_dataset = None
    watch = watched(trainer)
    trainer.train()
    vowels, mix, length = (watch[f"rewards/{name}/mean"] for name in ("vowels", "composite", "composite/length"))
    assert vowels[0] < 0.3 and vowels[-1] > 1.5
    assert mix[0] < 0.5 and mix[-1] > 0.7
    assert length[0] < 0.5 and length[-1] > 0.9
