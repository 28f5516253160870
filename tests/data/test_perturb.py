"""Perturbed prompts: the wording changes, what is asked and its identity do not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.data.perturb import PERTURBATIONS, long_context, paraphrase, typos
from rlhf.data.rewording import reword
from rlhf.records import Message, Prompt, ask, prompt_id

words = st.text("abcdefghij KLMNO 0123456789,.?", min_size=4, max_size=120).filter(lambda t: re.search("[a-z]{2}", t))


def prompt(text, reference="Because of the light.", before=()):
    conversation = (*before, *ask(text))
    return Prompt(prompt_id(conversation), conversation, "open_qa", "test", reference=reference)


PROMPTS = [prompt(f"What is the capital of country number {i}?\n\nContext:\nLand {i} is big. Its hills are green.")
           for i in range(20)]  # fmt: skip


@pytest.mark.parametrize("name", PERTURBATIONS)
@given(texts=st.lists(words, min_size=2, max_size=5, unique=True))
def test_every_variant_names_its_origin_and_keeps_the_rest(name, texts):
    originals = [prompt(text) for text in texts]
    variants = PERTURBATIONS[name](originals)
    assert [v.id for v in variants] == [v.origin for v in variants] == [p.id for p in originals]
    assert all(v.suite == name and v.reference == p.reference for v, p in zip(variants, originals, strict=True))
    assert PERTURBATIONS[name](originals) == variants


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_every_prompt_changes_and_only_in_its_last_turn(name):
    before = (Message("user", "Hello."), Message("assistant", "Hello."))
    originals = [prompt(p.prompt[0].content, before=before) for p in PROMPTS]
    for variant, original in zip(PERTURBATIONS[name](originals), originals, strict=True):
        assert variant.prompt[:-1] == original.prompt[:-1]
        assert variant.prompt[-1].content != original.prompt[-1].content


@given(words)
def test_typos_leave_digits_and_marks_alone(text):
    [variant] = typos([prompt(text)])
    kept = re.compile(r"[0-9,.?]")
    assert kept.findall(variant.prompt[0].content) == kept.findall(text)


def test_typos_are_about_one_letter_in_twenty():
    text = "the quick brown fox jumps over the lazy dog " * 100
    typed = typos([prompt(text)])[0].prompt[0].content
    dropped = len(text.strip()) - len(typed)
    assert 20 <= dropped <= 110, "a third of 5% of 3,500 letters"


def test_paraphrase_leaves_the_context_alone():
    for variant, original in zip(paraphrase(PROMPTS), PROMPTS, strict=True):
        question, _, context = variant.prompt[0].content.partition("\n\nContext:\n")
        assert context == original.prompt[0].content.partition("\n\nContext:\n")[2]
        assert "the capital of country number" in question and not question.startswith("What is")


class First:
    """A random generator that always takes the first choice."""

    def choice(self, options):
        return options[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France?", "Can you tell me what the capital of France is?"),
        ("Who was Ada Lovelace?", "Can you tell me who Ada Lovelace was?"),
        ("Why do birds sing?", "Can you explain why birds sing?"),
        ("What is a baby horse called?", "Can you tell me what a baby horse is called?"),
        ("Quick question: Name two drinks. Thank you.",
         "What would you say if I asked for two drinks? Thank you."),
        ("Can you help me? Who has the bag?", "Can you help me? Do you know who has the bag?"),
        ("Classify each as fruit or not: apple, stone", "How would you group each as fruit or not: apple, stone"),
        ("Two plus two, please", "Here is something that I need help with. Two plus two, please"),
    ],
)  # fmt: skip
def test_rewording_by_rule(text, expected):
    assert reword(text, First()) == expected


def test_long_context_puts_foreign_sentences_before_the_question_within_its_budget():
    for variant, original in zip(long_context(PROMPTS, budget=300), PROMPTS, strict=True):
        message, question = variant.prompt[0].content, original.prompt[0].content
        notes = message.removesuffix(question)
        assert message.endswith(question) and len(message) <= 300
        assert len(notes) > 80
        assert re.search(r"Land \d+ is big", notes) and question.partition("Context:\n")[2] not in notes


def test_long_context_without_contexts_takes_references():
    first, second = prompt("One?", "Snow is white."), prompt("Two?", "Grass is green.")
    assert "Grass is green." in long_context([first, second])[0].prompt[0].content


def test_long_context_of_few_prompts_takes_its_sentences_from_all_that_are_given():
    variants = long_context(PROMPTS[:2], others=PROMPTS, budget=300)
    lands = {land for variant in variants for land in re.findall(r"Land (\d+) is big", variant.prompt[0].content)}
    assert len(variants) == 2 and len(lands) > 2
