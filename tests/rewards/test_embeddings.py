"""Relevance from a local sentence-transformers model: cosines recomputed from its encoder by hand."""

import importlib.util

import pytest
import torch

from rlhf.errors import UserError
from rlhf.rewards import embeddings
from rlhf.rewards.embeddings import Embedder, Relevance
from rlhf.rewards.text import Coherence
from tests.rewards.helpers import VOCABULARY, save_embedder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder of a tiny model, its bare encoder, and the embedder that is loaded from it."""
    pytest.importorskip("sentence_transformers", reason="needs requirements-embeddings.txt")
    folder = tmp_path_factory.mktemp("embedder")
    encoder = save_embedder(folder)
    return encoder, Embedder(str(folder), CPU)


def mean_of(encoder, text):
    """The mean of the encoder's hidden states over [CLS] words [SEP], without any library for sentences."""
    ids = torch.tensor([[2, *(VOCABULARY.index(word) for word in text.split()), 3]])
    with torch.no_grad():
        return encoder(input_ids=ids).last_hidden_state[0].mean(0)


def cosine(encoder, one, other):
    a, b = mean_of(encoder, one), mean_of(encoder, other)
    return ((a @ b) / (a.norm() * b.norm())).item()


def test_relevance_is_the_cosine_of_the_two_embeddings(world):
    encoder, embed = world
    prompts, completions = ["where is rome", "a cat"], ["in italy", "a cat sits in italy"]
    found = Relevance(embed)(prompts=prompts, completions=completions)
    expected = [cosine(encoder, *pair) for pair in zip(prompts, completions, strict=True)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert abs(expected[0] - expected[1]) > 0.01  # else nothing would be shown
    assert Relevance(embed)(["a cat"], ["a cat"]) == [pytest.approx(1, abs=1e-5)]


def test_a_reply_without_a_word_is_not_relevant(world):
    assert Relevance(world[1])(["where is rome"] * 2, ["", "..."]) == [0, 0]


def test_of_a_conversation_the_last_message_is_what_was_asked(world):
    encoder, embed = world
    turns = [{"role": "user", "content": "a cat sits"}, {"role": "user", "content": "where is rome"}]
    found = Relevance(embed)(["user: a cat sits\n\nuser: where is rome"], ["in italy"], messages=[turns])
    assert found == pytest.approx([cosine(encoder, "where is rome", "in italy")], abs=1e-5)


def test_coherence_is_the_mean_cosine_of_neighbouring_sentences(world):
    encoder, embed = world
    found = Coherence(embed)(["?"], ["a cat sits\nrome is in italy\nwhere is a cat"])
    expected = cosine(encoder, "a cat sits", "rome is in italy"), cosine(encoder, "rome is in italy", "where is a cat")
    assert found == pytest.approx([sum(expected) / 2], abs=1e-5)


def test_a_folder_without_a_model_is_refused(world, tmp_path):
    (tmp_path / "modules.json").write_text("[]x")
    with pytest.raises(UserError, match="No sentence-transformers model"):
        Embedder(str(tmp_path), CPU)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -r requirements-embeddings\.txt"):
        embeddings.require_library()
