"""From configuration to functions: every kind is made, normalised where asked, and checked before training."""

import json

import pytest
import torch

from rlhf.errors import UserError
from rlhf.rewards import build, embeddings
from rlhf.rewards.build import Workshop, build_rewards, check_rewards
from rlhf.rewards.specs import rewards_adapter
from rlhf.rewards.tokens import LEARNED
from tests.rewards.helpers import save_classifier, save_embedder

CPU = torch.device("cpu")
ASKED = {"prompts": ["where is rome", "a cat"], "completions": ["rome is in italy", "a a cat"]}


def made(given, **changes):
    return build_rewards(rewards_adapter.validate_python(given), Workshop(CPU, **changes))


def held_out():
    return {"prompts": ["?"] * 3, "completions": ["a", "a a", "a a a"], "reference": ["x"] * 3}


def test_names_weights_and_settings_arrive():
    rewards = made(
        [{"reward": "length", "words": [4, 4], "weight": 2}, {"reward": "distinct", "n": 2, "name": "pairs"}]
    )
    assert rewards.names == ["length", "pairs"]
    scores = rewards(**ASKED)
    assert scores.parts.tolist() == [[1, 1], [0.75, 1]]
    assert scores.total.tolist() == [3, 2.5]


def test_every_kind_can_be_made(tmp_path):
    pytest.importorskip("sentence_transformers", reason="needs requirements-embeddings.txt")
    save_embedder(tmp_path / "embedder")
    save_classifier(tmp_path / "classifier", ("bad", "good"))
    ratings = [{"prompt": "a", "completion": "cat " * i, "quality": i / 12} for i in range(1, 13)]
    (tmp_path / "ratings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ratings))
    embedder = str(tmp_path / "embedder")
    given = [
        "model",
        {"reward": "classifier", "path": str(tmp_path / "classifier"), "label": "good", "normalise": False},
        {"reward": "composite", "parts": [
            {"reward": "relevance", "path": embedder}, {"reward": "coherence", "path": embedder}, "distinct",
            {"reward": "length", "words": [2, 9]}, {"reward": "quality", "path": str(tmp_path / "ratings.jsonl")},
        ]},
        {"reward": "quality", "path": str(tmp_path / "ratings.jsonl"), "embedder": embedder},
        "rlhf.rewards.text.Distinct",
    ]  # fmt: skip
    check_rewards(rewards_adapter.validate_python(given))
    workshop = Workshop(CPU)
    rewards = build_rewards(rewards_adapter.validate_python(given), workshop)
    assert len(workshop.embedders) == 1  # shared
    scores = rewards(**ASKED, **{LEARNED: [0.5, 0.5]})
    assert scores.total.isfinite().all()
    by_name = dict(zip(rewards.names, scores.parts.T.tolist(), strict=True))
    assert by_name["model"] == [0.5, 0.5] and by_name["Distinct"] == pytest.approx([1, 2 / 3])
    assert all(value < 0 for value in by_name["classifier"])  # log-probabilities
    mean = [sum(by_name[f"composite/{part}"][0] for part in ("relevance", "distinct", "length", "quality")) / 4]
    assert by_name["composite"][:1] == pytest.approx(mean)  # coherence does not apply to a single sentence


def test_normalise_measures_on_the_held_out_demonstrations():
    # distinct words there: 1, 1/2, 1/3, of mean 11/18 and deviation sqrt((49 + 4 + 25)/18² / 2) = sqrt(39)/18
    rewards = made({"reward": "distinct", "normalise": True}, calibration=held_out)
    expected = [(1 - 11 / 18) / (39**0.5 / 18), (2 / 3 - 11 / 18) / (39**0.5 / 18)]
    assert rewards(**ASKED).total.tolist() == pytest.approx(expected)


def test_what_has_no_spread_or_no_rows_is_not_normalised():
    constant = {"reward": "length", "words": [1, 9], "normalise": True}
    with pytest.raises(UserError, match=r"(?s)length cannot be normalised.*3 finite values, 1 of them"):
        made(constant, calibration=held_out)
    with pytest.raises(UserError, match="no held-out demonstrations"):
        made(constant)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("no_such_module.f", "no module no_such_module"),
        ("rlhf.errors.nearest", "needs given, known"),
        ({"reward": "classifier", "path": "./nowhere"}, "Classifier './nowhere' does not exist"),
        ({"reward": "quality", "path": "./nowhere.jsonl"}, "No data file nowhere.jsonl"),
        ({"reward": "composite", "parts": [{"reward": "classifier", "path": "./nowhere"}]}, "./nowhere"),
    ],
)
def test_what_is_not_there_is_refused_without_making_anything(given, part, monkeypatch):
    monkeypatch.setattr(build, "Classifier", None)
    with pytest.raises(UserError) as refused:
        check_rewards(rewards_adapter.validate_python(given))
    assert part in str(refused.value)


def of_the_model(completions, reward_model):
    return reward_model


def test_what_the_learned_reward_gives_is_there_only_where_it_is_a_reward():
    own = f"{__name__}.of_the_model"
    check_rewards(rewards_adapter.validate_python(["model", own]))
    with pytest.raises(UserError, match="needs reward_model"):
        check_rewards(rewards_adapter.validate_python(["distinct", own]))


@pytest.mark.parametrize("name", ["relevance", "coherence"])
def test_a_missing_package_is_told_before_training(name, monkeypatch):
    monkeypatch.setattr(embeddings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="requirements-embeddings"):
        check_rewards(rewards_adapter.validate_python({"reward": name, "path": "some/model"}))
    check_rewards(rewards_adapter.validate_python("coherence"))  # which needs none
