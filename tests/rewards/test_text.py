"""Length, distinct words and coherence: values worked out by hand, and properties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.rewards.text import Coherence, Distinct, Length, word_counts


def of(reward, *completions):
    return reward(prompts=["?"] * len(completions), completions=list(completions))


def test_length_is_1_within_the_band_and_a_ratio_outside():
    words = [" ".join(["word"] * count) for count in (0, 1, 3, 4, 8, 16, 80)]
    assert of(Length(4, 8), *words) == [0, 0.25, 0.75, 1, 1, 0.5, 0.1]


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 200))
def test_length_rises_to_the_band_and_falls_behind_it(fewest, more, count):
    reward = Length(fewest, fewest + more)
    here, there = of(reward, "a " * count, "a " * (count + 1))
    assert 0 <= here <= 1
    assert there >= here if count < fewest + more else there < here


def test_distinct_by_hand():
    assert of(Distinct(), "the cat and the dog", "The the THE", "", "...") == [4 / 5, 1 / 3, 0, 0]
    assert of(Distinct(2), "a b a b a", "one") == [2 / 4, 0]


def test_coherence_of_word_counts_by_hand():
    # (a cat) and (a dog) share one word of two each: 1/2; (a dog) and (the end) none
    assert of(Coherence(), "A cat. A dog.", "A cat. A dog. The end.") == pytest.approx([0.5, 0.25])
    assert of(Coherence(), "One sentence only.", "", "Twice said. Twice said.") == [None, None, pytest.approx(1.0)]
    assert of(Coherence(), "One.", "") == [None, None]


def test_numbers_of_a_list_and_lines_without_words_are_no_sentences():
    assert of(Coherence(), "1. red apples\n---\n2. red pears") == [
        pytest.approx(1 / 3)
    ]  # (1 red apples), (2 red pears)


def test_coherence_takes_the_neighbours_only_and_each_replys_own():
    directions = {"N.": [0.0, 1.0], "E.": [1.0, 0.0], "X.": [0.6, 0.8]}
    reward = Coherence(lambda texts: torch.tensor([directions[text] for text in texts]))
    assert of(reward, "N. X. E.", "E. E.", "N.", "N. E. N.") == [pytest.approx((0.8 + 0.6) / 2), 1.0, None, 0.0]


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_word_counts_are_of_length_1_or_0(texts):
    norms = word_counts(texts).norm(dim=1)
    assert all(n == pytest.approx(1, abs=1e-5) or n == 0 for n in norms.tolist())
