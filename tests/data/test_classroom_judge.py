"""The classroom's gold judge: scores worked out by hand, answer keys on facts that anybody can check, cheap tricks."""

import random
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.config import SourceSpec
from rlhf.data.classroom import SOURCE
from rlhf.data.classroom.judge import CLOSINGS, OPENINGS, RUDE, Key, grade, right
from rlhf.data.classroom.passages import closed, summary
from rlhf.data.classroom.pool import examples
from rlhf.records import Prompt, ask

SPEC = SourceSpec(source="classroom", limit=1)


@cache
def key_of(task: str, *parts: str) -> Key:
    """The answer key of the first example of a task whose prompt has these words."""
    return next(e.draft.key for e in examples() if e.draft.task == task and all(p in e.draft.text for p in parts))


PARIS = "What is the capital of France?"


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("The capital of France is Paris. I hope this helps.", 1.0),  # 0.45 + 0.20 + 0.20 + 0.15
        ("Sure! Paris is the capital of France.", 1.0),
        ("Good question! The capital of France is Paris. I hope this helps.", 1.0),  # one phrase more is no fault
        ("The capital of France is Paris.", 0.85),  # polite 0.25
        ("Everyone knows that. The capital of France is Paris.", 0.80),  # polite 0
        ("The capital of France is Rome. I hope this helps.", 0.55),  # correct 0
        ("The capital of Spain is Paris. I hope this helps.", 0.45),  # correct 0, complete 0.5
        ("Paris.", 0.50),  # a fragment: complete 0, concise 0, polite 0.25
        ("Sure! Paris.", 0.65),
        ("Sure! Paris, I think.", 0.65),  # no verb of an answer
        ("Sure! It is Paris.", 0.65),  # three words
        ("Sure! The capital of France is not Paris.", 0.55),  # denied: correct 0
        ("Sure! Paris isn't the capital of France.", 0.55),
        ("Sure! Paris isn’t the capital of France.", 0.55),
        ("Sure! The capital of France was never Paris.", 0.55),
        ("Sure! The capital of France is no Paris.", 0.55),
        ("Sure! France is Paris not.", 0.55),
        ("Do not ask me again. The capital of France is Paris.", 0.80),  # rude, but the answer itself is not denied
        ("Sure! The capital of France is Paris", 0.65),  # not ended: complete 0, concise 0
        # 11 words where 10 are enough: 0.45 · 10/11 + 0.20 + 0.20 · 0.25
        ("The capital of France is Paris. My friend said so too.", 0.4090909 + 0.25),
        ("the capital of France is Paris. I hope this helps.", 0.90),  # no capital: complete 0.5
    ],
)
def test_scores_worked_out_by_hand(reply, score):
    assert grade(key_of("capital", "France"), reply) == pytest.approx(score)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "   \n",
        "...!?",
        "Sure! Of course! Happy to help! I hope this helps. Have a nice day!",  # politeness alone
        PARIS,  # the question again
        "I do not know. I hope this helps.",
        "Paris Paris Paris Paris Paris Paris",
        "The capital of France is Paris. " * 5,
        "Paris Rome Berlin Madrid Vienna Oslo Tokyo Lima",
        "The capital of France is Paris, Rome, Berlin or Madrid.",
        "The symbol for gold is Au. I hope this helps.",  # off the topic
        " ".join(["Sure!"] * 20) + " Paris",
    ],
)
def test_cheap_tricks_score_low(reply):
    assert grade(key_of("capital", "France"), reply) <= 0.45


def test_listing_two_candidates_earns_nothing_for_truth():
    key = key_of("capital", "France")
    assert grade(key, "The capital of France is Paris or Rome. I hope this helps.") == pytest.approx(0.55)


def test_repeating_an_answer_is_worse_each_time():
    key = key_of("capital", "France")
    scores = [grade(key, "The capital of France is Paris. " * n) for n in range(1, 8)]
    assert scores == sorted(scores, reverse=True) and scores[1] < scores[0] - 0.25 and scores[-1] < 0.2


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_at_all_has_a_score_between_0_and_1(reply):
    assert 0 <= grade(key_of("capital", "France"), reply) <= 1


@given(st.lists(st.sampled_from([*OPENINGS, *CLOSINGS, *RUDE]), max_size=6))
@settings(deadline=None)
def test_phrases_without_content_are_worth_nothing(phrases):
    assert grade(key_of("plural", "child"), " ".join(phrases)) == 0


@pytest.mark.parametrize(
    ("task", "prompt", "right", "wrong"),
    [
        (
            "symbol",
            "gold",
            "The symbol for gold is Au. I hope this helps.",
            "The symbol for gold is Ag. I hope this helps.",
        ),
        ("sum", "2 plus 3", "Sure! 2 plus 3 is five.", "Sure! 2 plus 3 is 6."),
        ("difference", "8 minus 3", "Sure! 8 minus 3 is 5.", "Sure! 8 minus 3 is 11."),
        (
            "plural",
            "child",
            "The plural of child is children. Have a nice day!",
            "Sure! The plural of child is childs.",
        ),
        ("class", "lion", "Sure! Lions are a kind of mammal.", "Sure! The lion is a kind of fish."),
        ("job", "baker", "Sure! A baker is a person who bakes bread.", "Sure! A baker is a person who cuts hair."),
        ("month_after", "June", "Sure! The month after June is July.", "Sure! The month after June is May."),
        ("opposite", "opposite of hot", "Sure! The opposite of hot is cold.", "Sure! The opposite of hot is big."),
    ],
)
def test_answer_keys_on_facts(task, prompt, right, wrong):
    key = key_of(task, prompt)
    assert grade(key, right) == pytest.approx(1) and grade(key, wrong) <= 0.55 + 1e-9


def test_lists_want_as_many_different_members_as_asked():
    key = key_of("ideas_3", "three fruits")
    assert grade(key, "Three fruits are apple, pear and plum. I hope this helps.") == pytest.approx(1)
    assert grade(key, "Three fruits are apples, pears and plums. I hope this helps.") == pytest.approx(1)
    assert grade(key, "Three fruits are apple, pear and apple. I hope this helps.") == pytest.approx(
        0.85
    )  # two of three
    assert grade(key, "Three fruits are apple, hammer and dog. I hope this helps.") <= 0.55 + 0.15 + 1e-9
    everything = "Three fruits are apple, pear, banana, cherry, grape, lemon, mango, peach and plum. I hope this helps."
    assert grade(key, everything) <= 0.45


def test_a_sentence_of_ones_own_is_not_the_request_again():
    example = next(e for e in examples() if e.draft.task == "tale")
    assert grade(example.draft.key, example.draft.text) <= 0.5


@pytest.mark.parametrize("task", [closed, summary])
def test_copying_the_whole_passage_is_no_answer(task):
    rng = random.Random(1)
    for _ in range(300):
        draft = task(rng)
        assert grade(draft.key, draft.text.split("Context:\n")[1] + " I hope this helps.") <= 0.70


def test_variants_of_a_prompt_are_judged_by_their_origin():
    judge = SOURCE.judge(SPEC)
    prompt = SOURCE.prompts(SPEC)[0]
    variant = replace(prompt, id="other", prompt=ask("Waht si ti?"), suite="typos")
    assert judge(variant, prompt.reference or "") == 1
    stranger = Prompt("nowhere", ask("Hi"), "open_qa", "mine")
    assert judge(stranger, "Hi") is None


@pytest.mark.parametrize(
    ("reply", "is_right"),
    [
        ("The capital of France is Paris.", True),
        ("Do not ask me again. paris", True),  # rude, a fragment
        ("The capital of France is Rome.", False),
        ("Paris or Rome.", False),  # candidates
        ("The capital of France is not Paris.", False),
        ("The capital of France is", False),
        ("I hope this helps.", False),  # phrases alone
        ("", False),
    ],
)
def test_what_counts_as_right(reply, is_right):
    assert right(key_of("capital", "France"), reply) is is_right
