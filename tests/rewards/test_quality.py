"""Ratings learned by ridge regression: weights and the error left out by hand, and what it finds in made ratings."""

import json
import random

import pytest
import torch

from rlhf.errors import UserError
from rlhf.records import Demonstration, ask
from rlhf.rewards.quality import Quality, embedding_features, read_ratings, text_features


def rated(*rows):
    return [Demonstration(str(i), ask("why"), text, "", "test", quality) for i, (text, quality) in enumerate(rows)]


def letters(prompts, completions):
    """One feature: the length in letters."""
    return torch.tensor([[float(len(completion))] for completion in completions], dtype=torch.float64)


ROWS = rated(("a", 0.2), ("abc", 0.4), ("abcde", 0.9))


def test_the_regression_by_hand():
    # lengths 1, 3, 5: mean 3, deviation sqrt(8/3); Σ z² = 3, Σ z·(rating − 0.5) = (−2·−0.3 + 0 + 2·0.4)/sqrt(8/3)
    quality = Quality(ROWS, letters, ridge=1.0)
    deviation = (8 / 3) ** 0.5
    weight = (1.4 / deviation) / (3 + 1)
    assert quality.weights.tolist() == pytest.approx([weight])
    assert quality(["why"] * 2, ["abc", "abcd"]) == pytest.approx([0.5, 0.5 + weight / deviation])
    assert quality(["why"] * 2, ["", "x" * 99]) == pytest.approx([max(0.5 - 3 * weight / deviation, 0), 1.0])


def test_the_score_left_out_is_that_of_regressions_on_the_others():
    """With the scale of all rows kept, as documented: a plain loop over the rows must give the same."""
    x, y = torch.tensor([1.0, 3.0, 5.0]).double(), torch.tensor([0.2, 0.4, 0.9]).double()
    z, squares, spread = (x - x.mean()) / (8 / 3) ** 0.5, 0.0, 0.0
    for out in range(3):
        kept = [i for i in range(3) if i != out]
        centred, target = z[kept] - z[kept].mean(), y[kept] - y[kept].mean()
        weight = (centred @ target) / (centred @ centred + 1.0)
        squares += (y[out] - y[kept].mean() - weight * (z[out] - z[kept].mean())) ** 2
        spread += (y[out] - y[kept].mean()) ** 2
    assert Quality(ROWS, letters, ridge=1.0).r2 == pytest.approx(1 - float(squares / spread))


def test_text_features_by_hand():
    (row,) = text_features(["Where is Rome?"], ["Rome, Rome is big"]).tolist()
    assert row == pytest.approx([1.6094379, 13 / 4, 3 / 4, 0, 2 / 3])
    assert text_features(["..."], [""]).tolist() == [[0, 0, 0, 0, 0]]


def test_it_learns_what_raters_like_and_says_when_there_is_nothing_to_learn():
    rng = random.Random(0)
    texts = [" ".join(rng.choice(["red", "blue", "cat"]) for _ in range(rng.randint(1, 20))) for _ in range(80)]
    liked = Quality(rated(*[(text, min(1.0, len(text.split()) / 20)) for text in texts]), text_features)
    assert liked.r2 > 0.8
    short, long = liked(["why"] * 2, ["red cat", "red cat blue " * 5])
    assert short < 0.3 < 0.6 < long
    assert Quality(rated(*[(text, rng.random()) for text in texts]), text_features).r2 < 0.2


def test_embedding_features_are_the_replys_embedding_and_the_cosine():
    vectors = {"why": [0.6, 0.8], "so": [1.0, 0.0]}
    features = embedding_features(lambda texts: torch.tensor([vectors[text] for text in texts]))
    assert features(["why"], ["so"]).tolist()[0] == pytest.approx([1.0, 0.0, 0.6])


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_ratings_are_read_from_rows_with_a_quality(tmp_path):
    rows = [{"prompt": "why", "completion": f"so {i}", "quality": i / 20} for i in range(12)]
    chat = [{"role": "user", "content": "why"}, {"role": "assistant", "content": "so"}]
    unrated = [{"prompt": "why", "completion": "unrated"}]
    assert [row.quality for row in read_ratings(write(tmp_path / "a.jsonl", rows + unrated))] == [
        i / 20 for i in range(12)
    ]
    chats = [{"messages": chat, "quality": i % 2} for i in range(10)]
    assert len(read_ratings(write(tmp_path / "b.jsonl", chats))) == 10


@pytest.mark.parametrize("qualities", [[], [0.1] * 3, [0.5] * 30])
def test_too_few_or_equal_ratings_are_refused(tmp_path, qualities):
    rows = [{"prompt": "why", "completion": "so", "quality": value} for value in qualities]
    with pytest.raises(UserError, match="too few ratings"):
        read_ratings(write(tmp_path / "few.jsonl", [{"prompt": "why", "completion": "so"}, *rows]))
