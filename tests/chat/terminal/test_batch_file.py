"""Replies to a file: every format of prompts, order, seeds, what is refused, and that half a file never appears."""

import json
import time
from dataclasses import replace

import pytest

from rlhf.chat.guardrails import ASK_OTHERWISE, Guardrails
from rlhf.chat.records import ReplySettings
from rlhf.chat.settings import GuardrailSection
from rlhf.chat.terminal.batch_file import check_out, read_prompts, write_replies
from rlhf.errors import UserError
from rlhf.records import Message, ask
from tests.chat.talking import save_talker, talker_engine

SETTINGS = ReplySettings()
TWO = (Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Who?"))


@pytest.fixture
def engine(tmp_path, tokenizer):
    with talker_engine(save_talker(tmp_path / "sft", tokenizer), max_batch=3, queue_size=4) as engine:
        yield engine


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(engine, out, prompts, **more):
    return write_replies(engine, "sft", SETTINGS, prompts, out, seed=0, **more)


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        ("a.txt", "Who?\n\n  Wo ist Köln? \r\nWho?\n", [ask("Who?"), ask("Wo ist Köln?"), ask("Who?")]),
        ("a.txt", '{"prompt": 1}\n', [ask('{"prompt": 1}')]),
        ("a", "\ufeffWho?\n", [ask("Who?")]),
        ("a", '{"prompt": "Who?"}\n{"prompt": "Who?"}\n', [ask("Who?"), ask("Who?")]),
        ("a.jsonl", '{"prompt": "Who?", "completion": "Me."}\n', [ask("Who?")]),
        ("a.jsonl", '{"prompt": "Who?", "chosen": "Me.", "rejected": "You."}\n' * 2, [ask("Who?")] * 2),
        ("a.jsonl", json.dumps({"prompt": [{"role": m.role, "content": m.content} for m in TWO]}), [TWO]),
        ("a.jsonl", '{"turns": ["Who?"]}\n', [ask("Who?")]),
        ("a.jsonl", '{"instruction": "Who?", "context": "", "response": "Me.", "category": "x"}\n', [ask("Who?")]),
    ],
)
def test_prompts_are_read_from_lines_and_rows(tmp_path, name, content, prompts):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_prompts(tmp_path / name) == prompts


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"\n \n", "is empty"),
        ("a.txt", b"K\xf6ln\n", "not UTF-8"),
        ("a.jsonl", b"Who?\n", "line 1: not JSON"),
        ("a.jsonl", b'{"prompt": "Who?"}\n{"prompt": ', "line 2: not JSON"),
        ("a.jsonl", b'{"question": "Who?"}\n', "unknown row format"),
        ("a.jsonl", b'{"text": "Once upon a time."}\n', "holds no prompts"),
    ],
)
def test_files_without_prompts_are_refused(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=problem):
        read_prompts(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="No file of prompts"):
        read_prompts(tmp_path / "none.txt")


def test_every_prompt_gets_its_reply_in_order(engine, tmp_path):
    prompts = [ask(f"What is {number}?") for number in range(19)] + [TWO]
    counts = write(engine, tmp_path / "out.jsonl", prompts)
    found = rows(tmp_path / "out.jsonl")
    assert counts == {"rows": 20, "length": 20}
    assert [row["prompt"] for row in found[:-1]] == [f"What is {number}?" for number in range(19)]
    assert found[-1]["prompt"] == [{"role": m.role, "content": m.content} for m in TWO]
    assert len({row["seed"] for row in found}) == 20
    for prompt, row in list(zip(prompts, found, strict=True))[::5]:
        alone = engine.reply(prompt, "sft", replace(SETTINGS, seed=row["seed"]))
        assert (row["completion"], row["tokens"], row["version"]) == (alone.text, 12, "sft")
    again = write(engine, tmp_path / "again.jsonl", prompts)
    assert again == counts and rows(tmp_path / "again.jsonl") == found
    assert read_prompts(tmp_path / "out.jsonl") == prompts


def test_what_cannot_be_answered_has_a_row_that_says_so(engine, tmp_path):
    prompts = [ask("Who?"), ask("word " * 400), (Message("user", "a"), Message("assistant", "b")), ask("shit"), TWO]
    counts = write(engine, tmp_path / "out.jsonl", prompts, guardrails=Guardrails(GuardrailSection()))
    found = rows(tmp_path / "out.jsonl")
    assert counts == {"rows": 5, "length": 2, "error": 2, "blocked": 1}
    assert [row["finish_reason"] for row in found] == ["length", "error", "error", "blocked", "length"]
    assert "too long for the model" in found[1]["error"] and "nothing to reply to" in found[2]["error"]
    assert found[3]["completion"] == ASK_OTHERWISE


def test_a_file_is_not_replaced_unless_told(engine, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"(?s)is there already.*chat\.overwrite=true"):
        check_out(out, overwrite=False)
    with pytest.raises(UserError, match="is there already"):  # it came while the replies were made
        write(engine, out, [ask("Who?")])
    assert out.read_text() == "mine"
    check_out(out, overwrite=True)
    write(engine, out, [ask("Who?")], overwrite=True)
    assert len(rows(out)) == 1 and sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "sft"]


def test_places_where_no_file_can_go_are_refused(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        check_out(tmp_path / "none" / "out.jsonl", overwrite=False)
    with pytest.raises(UserError, match="is no file"):
        check_out(tmp_path, overwrite=True)


def test_a_run_that_ends_in_between_leaves_nothing(engine, tmp_path):
    def prompts():
        yield from [ask("Who?")] * 10
        raise KeyboardInterrupt

    class Interrupted(list):
        def __iter__(self):
            return prompts()

    with pytest.raises(KeyboardInterrupt):
        write(engine, tmp_path / "out.jsonl", Interrupted())
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]
    while engine.stats().waiting:  # those that were cancelled leave at the engine's next step
        time.sleep(0.01)
    assert engine.reply(ask("Who?"), "sft", SETTINGS).text
