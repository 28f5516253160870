"""ChatInterface: from a run, from any result, from a folder of somebody else; what is remembered; what is refused."""

import subprocess
import sys

import pytest
import torch

from rlhf.chat import ChatInterface
from rlhf.config import save_config
from rlhf.errors import UserError
from rlhf.models import load_base, lora_config
from rlhf.records import Message, ask
from tests.chat.talking import save_talker
from tests.conftest import small_config


@pytest.fixture
def run(tmp_path, tokenizer):
    """A run of two versions: sft, a whole model, and ppo, an adapter on it that says something else."""
    from peft import get_peft_model

    folder = tmp_path / "run"
    config = small_config(chat={"system": ""})
    save_talker(folder / "sft", tokenizer)
    save_config(config, folder / "sft")
    base = load_base(str(folder / "sft"), tokenizer, "fp32", torch.device("cpu"))
    adapter = get_peft_model(base, lora_config(config.lora))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in adapter.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    adapter.save_pretrained(folder / "ppo", save_embedding_layers=False)
    tokenizer.save_pretrained(folder / "ppo")
    save_config(config, folder / "ppo")
    return folder


def test_a_run_answers_with_its_live_version(run):
    with ChatInterface(run) as chat:
        assert chat.version == "ppo"
        live = chat.generate_response("Hello", seed=1)
        assert live and chat.generate_response("Hello", seed=1) == live
        assert chat.reply("Hello", max_tokens=2).completion_tokens == 2
        assert "".join(chat.stream("Hello", seed=1)) == live
        assert chat.generate_response("Hello", seed=1, stop=live[3:7]) == live[: live.index(live[3:7])]
    with ChatInterface(str(run), version="sft") as chat:
        assert chat.generate_response("Hello", seed=1) != live
    with ChatInterface(run / "ppo") as chat:  # a result, an adapter
        assert chat.version == "ppo" and chat.generate_response("Hello", seed=1) == live


def test_a_conversation_is_remembered_and_a_single_turn_is_not(run):
    with ChatInterface(run / "sft") as chat:
        first = chat.chat("My name is Ann.", seed=1)
        chat.generate_response("Forget me.")
        asked = (Message("user", "My name is Ann."), Message("assistant", first))
        assert chat.history == asked
        second = chat.chat("Who am I?", seed=2)
        assert second == chat.generate_response((*asked, Message("user", "Who am I?")), seed=2)
        assert len(chat.history) == 4
        chat.reset()
        assert chat.history == ()


def test_a_folder_of_somebody_else_will_do(tmp_path, tokenizer):
    with ChatInterface(save_talker(tmp_path / "theirs", tokenizer)) as chat:
        reply = chat.reply("Hello")
        assert (chat.version, reply.completion_tokens) == ("theirs", 64)  # a quarter of its context of 256


@pytest.mark.parametrize("precision", ["bf16", "8bit"])
def test_weights_in_other_precisions(run, precision):
    with ChatInterface(run, precision=precision) as chat:
        assert chat.generate_response("Hello")
        with chat.engine._fleet.role("ppo") as model:
            kinds = {parameter.dtype for name, parameter in model.named_parameters() if "lora" not in name}
        assert (torch.int8 if precision == "8bit" else torch.bfloat16) in kinds and torch.float32 not in kinds


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda run: ChatInterface(run / "none"), "no folder"),
        (lambda run: ChatInterface(run.parent), "no version that could answer"),
        (lambda run: ChatInterface(run, version="pppo"), r"did you mean ppo\?"),
        (lambda run: ChatInterface(run / "sft", version="ppo"), "is one version"),
    ],
)
def test_folders_without_a_version_are_refused(run, make, problem):
    with pytest.raises(UserError, match=problem):
        make(run)


def test_bad_messages_and_settings_are_refused_and_harm_nothing(run):
    with ChatInterface(run) as chat:
        for call, problem in (
            (lambda: chat.generate_response("x", temprature=1), r"did you mean temperature\?"),
            (lambda: chat.generate_response("x", temperature=9), "Bad temperature"),
            (lambda: chat.generate_response("word " * 999), "too long for the model"),
            (lambda: chat.chat("word " * 999), "too long for the model"),
            (lambda: chat.generate_response(()), "nothing to reply to"),
        ):
            with pytest.raises(UserError, match=problem):
                call()
        assert chat.history == () and chat.generate_response(ask("Hello"))


def test_importing_the_package_loads_no_torch():
    code = "import sys, rlhf.chat, rlhf.chat.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
