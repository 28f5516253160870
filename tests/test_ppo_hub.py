"""The policy goes to the hub as it goes to a result folder; only the network is not real."""

from types import SimpleNamespace

import pytest
import transformers.trainer
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.ppo_world import constant, make_trainer


@pytest.fixture
def uploaded(monkeypatch):
    """What would have been uploaded: repository → names of files."""
    found = {}

    class Hub:
        def create_repo(self, name, **_):
            return SimpleNamespace(repo_id=f"me/{name}")

        def upload_folder(self, repo_id, folder_path, **_):
            found[repo_id] = folder_path

    monkeypatch.setattr(transformers.trainer, "hf_api", Hub)
    return found


@pytest.mark.parametrize("phases", [["ppo"], []], ids=["lora", "full"])
def test_the_trained_policy_is_pushed_with_a_card(tmp_path, start, tokenizer, uploaded, phases):
    trainer = make_trainer(tmp_path, start, tokenizer, constant, phases=phases, hub_model_id="aligned")
    trainer.train()
    trainer.push_to_hub()
    (folder,) = uploaded.values()
    assert list(uploaded) == ["me/aligned"]
    assert "PPO" in (tmp_path / "out" / "README.md").read_text()
    if phases:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(start), folder)
        assert list(model.peft_config) == ["default"]
        assert not [path for path in (tmp_path / "out").iterdir() if path.name in ("reference", "reward", "value")]
    else:
        model = AutoModelForCausalLM.from_pretrained(folder)
    kept = trainer.policy_model.state_dict()
    assert all(kept[name].equal(weight) for name, weight in model.state_dict().items() if "lora" in name or not phases)
