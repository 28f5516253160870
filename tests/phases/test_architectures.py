"""SFT, reward model and PPO, as a user runs them, on local models that are no GPT-Neo, with their own chat template."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers import PreTrainedTokenizerFast as FastTokenizer

import main
from rlhf.records import ask
from rlhf.tokenizer import encode_prompt, load_tokenizer
from tests.architectures import tiny_model
from tests.phases.helpers import SHORT, TEXTS, WORDS, metrics

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def make_tokenizer() -> FastTokenizer:
    """Of Llama's kind: a beginning, an end, a chat template, no pad."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<unk>", "<s>", "</s>"]
    backend.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = FastTokenizer(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(params=["llama-lora", "qwen3-full"])
def world(request, tmp_path):
    """A configuration with a model's folder, and whether LoRA is used."""
    kind, _, way = request.param.partition("-")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path / kind)
    model = tiny_model(kind, tokenizer)
    with torch.no_grad():  # less lively: three steps are to teach it something
        for parameter in model.parameters():
            parameter.mul_(0.3 if parameter.ndim > 1 else 1.0)
    model.save_pretrained(tmp_path / kind)
    rows = [{"prompt": f"What is a {a} {b}?", "completion": f"A {a} is here."} for a in WORDS for b in WORDS]
    pairs = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "No no."} for row in rows]
    for name, lines in (("demonstrations", rows), ("pairs", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    short = SHORT | {"learning_rate": 2e-3, "save_strategy": "no"}
    values: dict[str, Any] = {
        "model": {"name": str(tmp_path / kind), "device": "cpu"},
        "lora": {"phases": ["sft", "reward", "ppo"] if way == "lora" else [], "r": 4, "alpha": 8},
        "data": {
            "demonstrations": str(tmp_path / "demonstrations.jsonl"), "preferences": str(tmp_path / "pairs.jsonl"),
            "validation_fraction": 0.2, "max_prompt_tokens": 40, "max_response_tokens": 12,
        },
        "sft": short | {"max_steps": 20},
        "reward": short | {"max_steps": 20},
        "ppo": short | {"total_episodes": 32, "gradient_accumulation_steps": 2, "num_mini_batches": 2,
                        "eval_steps": 2, "eval_prompts": 8, "missing_eos_penalty": 1.0},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    return tmp_path, way == "lora"


def phase(folder: Path, name: str, *more: str) -> int:
    return main.main(["--phase", name, "--config", f"{folder}/config.yaml", "--output", f"{folder}/run", *more])


def test_the_phases_run_on_it(world, capsys):
    folder, lora = world
    for name in ("sft", "reward", "ppo"):
        assert phase(folder, name) == 0, capsys.readouterr().err[-2000:]
    run = folder / "run"
    tokenizer = load_tokenizer(str(run / "ppo"), vocab_size=0, texts=list, max_length=52)
    prompt = encode_prompt(tokenizer, ask("What is a cat dog?"))
    assert tokenizer.decode(prompt) == "<s>[user] What is a cat dog?[assistant] "
    losses = [row["loss"] for row in metrics(run / "sft") if "loss" in row]
    assert losses[-1] < losses[0] - 0.1
    updates = [row for row in metrics(run / "ppo") if "objective/kl" in row]
    assert len(updates) == 4 and updates[0]["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert max(row["rollout/logprob_gap"] for row in updates) < 1e-3
    assert len({row["objective/scores"] for row in updates}) > 1
    assert (run / "ppo" / "adapter_config.json").is_file() == lora
    policy = AutoModelForCausalLM.from_pretrained(run / "rlhf_gpt_neo_model")
    reward = AutoModelForSequenceClassification.from_pretrained(run / "rlhf_reward_model")
    assert policy.get_input_embeddings().num_embeddings == len(AutoTokenizer.from_pretrained(run / "ppo"))
    assert (
        policy(torch.tensor([prompt])).logits.isfinite().all() and reward(torch.tensor([prompt])).logits.shape[1] == 1
    )
    assert type(policy).__name__.startswith(("Llama", "Qwen3"))


def test_a_stop_token_outside_its_vocabulary_is_refused(world, capsys):
    folder, _ = world
    for name in ("sft", "reward"):
        assert phase(folder, name, "--set", f"{name}.max_steps=1") == 0
    assert phase(folder, "ppo", "--set", "ppo.stop_token_id=5000") == 2
    message = capsys.readouterr().err
    assert "ppo.stop_token_id is no token of this tokenizer" in message and "Traceback" not in message
