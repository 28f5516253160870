"""Simulated people and what is told of them: votes worked out by hand, the table, the page that keeps its words."""

import random
from collections import Counter

import pytest

from benchmarks.loop_raters import MISTAKES, Reader, rate_directly
from benchmarks.loop_summary import in_words, into_page, table
from rlhf.chat.feedback import FILE, FeedbackStore
from rlhf.chat.store.judgements import collect
from rlhf.evaluation.marked import BEGIN, END
from rlhf.evaluation.versus import Paired
from rlhf.records import Prompt, ask, prompt_id


def by_length(prompt: Prompt, reply: str) -> float:
    """Gold for tests: the share of ten letters."""
    assert prompt.origin == prompt_id(prompt.prompt)
    return len(reply) / 10


def reader(seed: int = 0) -> Reader:
    return Reader("ann", by_length, random.Random(seed))


@pytest.mark.parametrize(
    ("left", "right", "choice"), [("aaaaa", "bbbbb", "tie"), ("a", "b", "both_bad"), ("aaaaaa", "b", "left")]
)
def test_people_vote_for_the_better_reply_or_for_none(left, right, choice):
    votes = Counter(reader(seed).opinion("Why?", left, right)[0] for seed in range(40))
    assert votes.most_common(1)[0][0] == choice
    assert set(votes) <= {choice, "right"}


def test_one_vote_for_a_side_in_seven_is_a_mistake_and_says_so():
    ann = reader()
    said = [ann.opinion("Why?", "aaaaaa", "b") for _ in range(2000)]
    mistaken = [choice == "right" for choice, _, _ in said]
    assert mistaken == [mistake for _, _, mistake in said]
    assert abs(sum(mistaken) / 2000 - MISTAKES) < 0.03


def test_longer_replies_take_longer_to_read():
    short, long = ([reader(seed).opinion("Why?", "a", "b" * n)[1] for seed in range(50)] for n in (1, 240))
    assert all(8 * a < b for a, b in zip(short, long, strict=True))  # 0.8 s + 2 letters, 0.8 s + 241 letters


def test_votes_without_a_server_are_judgements_like_any_other(tmp_path):
    prompts = [Prompt(prompt_id(ask(f"{n}?")), ask(f"{n}?"), "", "x") for n in range(20)]
    tally = rate_directly(tmp_path, by_length, 1, "sft", [(prompt, "aaaaaaaa", "b") for prompt in prompts])
    assert sum(tally[side] for side in ("left", "right", "tie", "both_bad")) == 20
    with FeedbackStore(tmp_path / FILE) as store:
        found = collect(store)
    assert len(found.pairs) == 20 and not found.left_out
    assert sum(pair.chosen == "b" for pair in found.pairs) == tally["mistakes"]


def row(version: str, new: list[float], old: list[float]) -> dict:
    compared = {"gold": Paired.of(new, old)._asdict(), "greedy": Paired.of(old, old)._asdict()}
    mean = sum(new) / len(new)
    numbers = {
        "version": version,
        "kept_update": 4,
        "gold": mean,
        "gold_ci95": [mean, mean],
        "greedy": 0.5,
        "length": 9.0,
    }
    return numbers | {"to_parent": compared, "to_start": compared}


RESULT = {
    "start": row("sft", [0.4, 0.4], [0.4, 0.4]),
    "prompts": 2,
    "accuracy": {"judged": [0.6, 0.7], "sampled": [0.5, 0.55]},
    "rounds": [{"votes": {"left": 5, "right": 3, "tie": 1, "mistakes": 2},
                "data": {"pairs": {"duel": 6, "correction": 1}, "held_out": 1}}],
    "with_people": [row("v1", [0.6, 0.6], [0.4, 0.4])],
    "without_people": [row("v1", [0.25, 0.75], [0.25, 0.25])],
}  # fmt: skip


def test_the_table_says_what_people_did_and_what_came_of_it():
    lines = table(RESULT).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert "| 8, 1, 0 | 2 | 7 + 1 held out | 0.600 | +0.200 [+0.200, +0.200] |" in lines[3]
    assert "70.0%, 55.0%" in lines[3] and "0.500 +0.250 [+0.000, +0.500]" in lines[3]
    assert "1 of 1 rounds" in in_words(RESULT)


def test_a_page_keeps_its_words_around_the_table(tmp_path):
    page = tmp_path / "loop.md"
    page.write_text(f"before\n{BEGIN}\nformer\n{END}\nafter\n")
    into_page(RESULT, page)
    into_page(RESULT, page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "former" not in text
    assert text.count("8, 1, 0") == 1
