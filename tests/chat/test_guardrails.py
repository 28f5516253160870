"""Guardrails: the bucket by hand, what blocks and what passes, and the same from many threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.chat.guardrails import ASK_OTHERWISE, CANNOT_SAY, Guardrails, RateLimit
from rlhf.chat.settings import GuardrailSection
from rlhf.errors import UserError
from tests.rewards.helpers import VOCABULARY, save_classifier


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_burst_of_a_quarter_and_then_one_by_one():
    clock = Clock()
    limit = RateLimit(12, clock)  # a burst of 3, then one every 5 seconds
    assert [limit.wait("ann") for _ in range(4)] == [0, 0, 0, 5]
    clock.now += 2
    assert limit.wait("ann") == pytest.approx(3)  # a refused message costs nothing
    clock.now += 3
    assert [limit.wait("ann"), limit.wait("ann")] == [0, 5]
    clock.now += 1000
    assert [limit.wait("ann") for _ in range(4)] == [0, 0, 0, 5]  # no more than the burst is saved up


def test_each_user_has_a_bucket_of_their_own():
    limit = RateLimit(1, Clock())  # less than one message a quarter: still one at once
    assert [limit.wait(user) for user in ("ann", "bob", "ann", "bob")] == [0, 0, 60, 60]


def test_users_who_have_left_are_forgotten():
    clock = Clock()
    limit = RateLimit(60, clock)  # full again after 15 s
    for number in range(1000):
        limit.wait(f"user {number}")
    clock.now += 15.5
    assert limit.wait("ann") == 0 and len(limit._buckets) == 1


@given(per_minute=st.integers(1, 600), gaps=st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_no_window_lets_more_through_than_burst_and_rate(per_minute, gaps):
    clock, passed = Clock(), []
    limit = RateLimit(per_minute, clock)
    for gap in gaps:
        clock.now += gap
        wait = limit.wait("ann")
        if not wait:
            passed.append(clock.now)
        elif gap > 1:  # whoever waits as long as told is let through
            clock.now += wait
            assert limit.wait("ann") == 0
            passed.append(clock.now)
    most = max(1, per_minute / 4)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= most + (passed[last] - passed[first]) * per_minute / 60 + 1e-6


def test_messages_that_are_too_long_are_told_both_lengths():
    guardrails = Guardrails(GuardrailSection(max_characters=10))
    assert guardrails.check_input("ann", "0123456789") is None
    block = guardrails.check_input("ann", "0123456789a")
    assert block.reason == "length" and "11 characters" in block.reply and "at most 10" in block.reply
    assert guardrails.check_output("0123456789" * 9) is None  # the reply's length is a setting of its own


def test_too_many_messages_are_told_when_to_come_back():
    clock = Clock()
    guardrails = Guardrails(GuardrailSection(requests_per_minute=40), clock=clock)  # 10, then one every 1.5 s
    blocks = [guardrails.check_input("ann", "Hello") for _ in range(11)]
    assert blocks[:10] == [None] * 10
    assert (blocks[10].reason, blocks[10].retry_after) == ("rate", pytest.approx(1.5))
    assert "in 2 seconds" in blocks[10].reply
    clock.now += blocks[10].retry_after
    assert guardrails.check_input("ann", "Hello") is None


def test_all_together_have_a_limit_too_whatever_they_call_themselves():
    clock = Clock()
    guardrails = Guardrails(GuardrailSection(requests_per_minute=4), clock=clock)  # 80 together: 20 at once
    blocks = [guardrails.check_input(f"name {number}", "Hello") for number in range(21)]
    assert blocks[:20] == [None] * 20
    assert (blocks[20].reason, blocks[20].everybody, blocks[20].retry_after) == ("rate", True, pytest.approx(0.75))
    assert not guardrails.check_input("name 1", "Hello").everybody  # who is too fast alone costs the others nothing
    clock.now += 0.75
    assert guardrails.check_input("another", "Hello") is None
    few = Guardrails(GuardrailSection(requests_per_minute_together=4), clock=clock)
    assert [few.check_input(name, "Hello") is None for name in "ab"] == [True, False]


def test_coarse_words_are_kept_from_both_sides():
    guardrails = Guardrails(GuardrailSection())
    asked, said = guardrails.check_input("ann", "You piece of shit"), guardrails.check_output("What the fuck")
    assert (asked.reason, asked.reply) == ("words", ASK_OTHERWISE)
    assert (said.reason, said.reply) == ("words", CANNOT_SAY)
    for text in ("What is the capital of France?", "Scunthorpe has a museum.", "", "  "):
        assert guardrails.check_input("bob", text) is None and guardrails.check_output(text) is None


def test_what_is_said_instead_passes_itself():
    guardrails = Guardrails(GuardrailSection())
    assert guardrails.check_output(ASK_OTHERWISE) is None and guardrails.check_output(CANNOT_SAY) is None


def test_the_word_list_can_be_switched_off():
    guardrails = Guardrails(GuardrailSection(words=False))
    assert guardrails.check_input("ann", "shit") is None and guardrails.check_output("shit") is None


def probability(model, text):
    """Of the label 1, by the model's own logits, encoded by hand."""
    ids = torch.tensor([[VOCABULARY.index(word) for word in ("[CLS]", *text.split(), "[SEP]")]])
    with torch.no_grad():
        return model(input_ids=ids, token_type_ids=torch.zeros_like(ids)).logits[0].softmax(0)[1].item()


def test_a_classifier_blocks_from_its_threshold_on(tmp_path):
    model = save_classifier(tmp_path, ("fine", "toxic"))
    texts = ["where is rome", "a cat sits", "rome in italy", "cat"]
    chances = [probability(model, text) for text in texts]
    assert max(chances) - min(chances) > 0.01
    threshold = (sorted(chances)[1] + sorted(chances)[2]) / 2
    settings = GuardrailSection(classifier=str(tmp_path), classifier_label="toxic", classifier_threshold=threshold)
    guardrails = Guardrails(settings)
    for text, chance in zip(texts, chances, strict=True):
        for block in (guardrails.check_input("ann", text), guardrails.check_output(text)):
            assert (block and block.reason) == ("classifier" if chance > threshold else None)


def test_a_classifier_that_cannot_be_used_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Guardrails(GuardrailSection(classifier=str(tmp_path / "none")))
    save_classifier(tmp_path / "two", ("fine", "toxic"))
    with pytest.raises(UserError, match="needs label"):
        Guardrails(GuardrailSection(classifier=str(tmp_path / "two")))


def shown(check, deltas):
    """What appeared after each delta, and at the end."""
    return [check.add(delta) for delta in deltas] + [check.finish()]


def test_a_reply_is_shown_word_by_word_once_checked():
    check = Guardrails(GuardrailSection()).while_written()
    assert shown(check, ["Par", "is is", " nice", ". ", "Yes"]) == ["", "Paris ", "is ", "nice. ", "", "Yes"]
    assert check.block is None


def test_nothing_of_a_coarse_word_is_shown():
    check = Guardrails(GuardrailSection()).while_written()
    assert shown(check, ["What the f", "uc", "k is", " this"]) == ["What the ", "", "", "", ""]
    assert (check.block.reason, check.block.reply) == ("words", CANNOT_SAY)
    check = Guardrails(GuardrailSection()).while_written()
    assert shown(check, ["What the f", "uck"]) == ["What the ", "", ""] and check.block


def test_a_word_is_not_mistaken_for_its_end():
    """The list minds "bs" by itself, and 200 characters before the end of each later word is a "bs" of "jobs"."""
    text = "jobs " * 40 + "a " + "jobs " * 10
    check = Guardrails(GuardrailSection()).while_written()
    assert "".join(shown(check, text)) == text and check.block is None


HARMLESS = [
    "jobs",
    "canals",
    "a class",
    "Moby Dick",
    "summa cum laude",
    "pussy willow",
    "to cock the gun",
    "a s",
    "end.",
]
"""Whole, they pass; parts of them do not."""


@given(words=st.lists(st.sampled_from(HARMLESS), min_size=20, max_size=60), step=st.integers(1, 9))
def test_what_passes_whole_passes_in_pieces(words, step):
    guardrails, text = Guardrails(GuardrailSection()), " so ".join(words)
    assert guardrails.check_output(text) is None
    check = guardrails.while_written()
    assert "".join(shown(check, [text[at : at + step] for at in range(0, len(text), step)])) == text
    assert check.block is None


def test_a_bad_word_blocks_before_the_end():
    check = Guardrails(GuardrailSection()).while_written()
    pieces = [check.add(word + " ") for word in "What the fuck is this now then".split()]
    assert "".join(pieces) == "What the " and check.block  # and no later than three words after it


@given(deltas=st.lists(st.text(max_size=12), max_size=12))
def test_a_reply_that_passes_is_shown_whole_and_nothing_twice(deltas):
    check = Guardrails(GuardrailSection(words=False)).while_written()
    assert "".join(shown(check, deltas)) == "".join(deltas)


def test_a_script_without_spaces_does_not_wait_for_the_end():
    check = Guardrails(GuardrailSection(words=False)).while_written()
    assert shown(check, ["水" * 60, "火"]) == ["水" * 20, "水", "水" * 39 + "火"]


def test_with_a_classifier_a_reply_is_shown_by_sentences(tmp_path):
    save_classifier(tmp_path, ("fine", "toxic"))
    never = GuardrailSection(classifier=str(tmp_path), classifier_label=1, classifier_threshold=0.999999)
    deltas = ["where is", " rome. in", " italy"]
    assert shown(Guardrails(never).while_written(), deltas) == ["", "where is rome.", "", " in italy"]
    always = Guardrails(never.model_copy(update={"classifier_threshold": 1e-6})).while_written()
    assert shown(always, deltas) == ["", "", "", ""] and always.block.reason == "classifier"


def test_many_threads_get_no_more_than_the_burst_and_right_answers(tmp_path):
    model = save_classifier(tmp_path, ("fine", "toxic"))
    texts = ["where is rome", "a cat sits", "rome in italy", "cat"] * 25
    settings = GuardrailSection(requests_per_minute=40, classifier=str(tmp_path), classifier_label=1)
    guardrails = Guardrails(settings, clock=Clock())
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda text: guardrails.check_input("ann", text), texts))
        said = list(pool.map(guardrails.check_output, texts))
    assert sum(block is None or block.reason != "rate" for block in asked) == 10
    unsafe = {text: probability(model, text) >= 0.5 for text in set(texts)}
    assert [block is not None for block in said] == [unsafe[text] for text in texts]
