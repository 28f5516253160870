"""Classifiers with another tokenizer: what they read and give, by their own logits; the project's own reward model."""

import pytest
import torch

from reward_model import RewardModel
from rlhf.errors import UserError
from rlhf.models import load_base
from rlhf.records import ask
from rlhf.rewards.classifier import Classifier
from rlhf.tokenizer import encode_prompt, encode_reply
from tests.rewards.helpers import VOCABULARY, save_classifier

PROMPTS, COMPLETIONS = ["where is rome", "a cat"], ["in italy", "sits in a cat"]


def ids(*words):
    return [VOCABULARY.index(word) for word in words]


def logits(model, prompt, completion):
    """Of the pair, encoded by hand."""
    first, second = ids("[CLS]", *prompt.split(), "[SEP]"), ids(*completion.split(), "[SEP]")
    types = torch.tensor([[0] * len(first) + [1] * len(second)])
    with torch.no_grad():
        return model(input_ids=torch.tensor([first + second]), token_type_ids=types).logits[0]


def test_one_label_gives_its_logit(tmp_path):
    model = save_classifier(tmp_path, ("score",))
    expected = torch.stack([logits(model, *pair)[0] for pair in zip(PROMPTS, COMPLETIONS, strict=True)])
    assert Classifier(str(tmp_path))(PROMPTS, COMPLETIONS) == pytest.approx(expected.tolist(), abs=1e-4)
    assert Classifier(str(tmp_path), probability=True)(PROMPTS, COMPLETIONS) == pytest.approx(
        torch.sigmoid(expected).tolist(), abs=1e-5
    )
    assert abs(expected[0] - expected[1]) > 0.1


@pytest.mark.parametrize("kind", ["single_label", "multi_label"])
def test_of_several_labels_the_chosen_ones_log_probability(tmp_path, kind):
    model = save_classifier(tmp_path, ("bad", "good", "so-so"), problem_type=f"{kind}_classification")
    rows = torch.stack([logits(model, *pair) for pair in zip(PROMPTS, COMPLETIONS, strict=True)])
    expected = (torch.softmax(rows, 1) if kind == "single_label" else torch.sigmoid(rows))[:, 1]
    for label in ("good", 1):
        found = Classifier(str(tmp_path), label)(PROMPTS, COMPLETIONS)
        assert found == pytest.approx(expected.log().tolist(), abs=1e-4)
    assert Classifier(str(tmp_path), 1, probability=True)(PROMPTS, COMPLETIONS) == pytest.approx(
        expected.tolist(), abs=1e-5
    )


def test_batches_change_nothing(tmp_path):
    save_classifier(tmp_path, ("score",))
    prompts, completions = PROMPTS * 3, ["in italy", "a", "is a cat in rome", "", "cat", "sits"]
    whole = Classifier(str(tmp_path))(prompts, completions)
    assert Classifier(str(tmp_path), batch_size=1)(prompts, completions) == pytest.approx(whole, abs=1e-5)


def test_long_texts_lose_their_beginning(tmp_path):
    model = save_classifier(tmp_path, ("score",))
    found = Classifier(str(tmp_path), max_tokens=8)(["cat cat cat cat where is rome"], ["in italy"])
    assert found == pytest.approx([logits(model, "where is rome", "in italy")[0].item()], abs=1e-4)
    assert len(Classifier(str(tmp_path))(["cat " * 99], ["italy " * 99])) == 1  # as many as the model takes


def test_the_projects_own_reward_model_serves_as_a_classifier(tmp_path, start, tokenizer):
    """Through its chat template, text gives the very tokens that phase reward gives it."""
    torch.manual_seed(0)
    network = load_base(str(start), tokenizer, "fp32", torch.device("cpu"), reward=True).eval()
    network.save_pretrained(tmp_path / "own")
    tokenizer.save_pretrained(tmp_path / "own")
    prompts, completions = ["Who?", "What is a cat?"], ["A cat.", "An animal."]
    sequences = [
        encode_prompt(tokenizer, ask(prompt)) + encode_reply(tokenizer, completion)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    expected = RewardModel(network, tokenizer.pad_token_id).score_ids(sequences).tolist()
    assert Classifier(str(tmp_path / "own"))(prompts, completions) == pytest.approx(expected, abs=1e-4)


def test_labels_that_are_missing_or_unknown_are_refused(tmp_path):
    save_classifier(tmp_path, ("bad", "good"))
    with pytest.raises(UserError, match=r"(?s)needs label: one of its 2 labels.*bad, good.*name the label"):
        Classifier(str(tmp_path))
    with pytest.raises(UserError, match=r"did you mean good\?"):
        Classifier(str(tmp_path), "goood")


def test_what_is_no_classifier_is_refused(tmp_path, start):
    with pytest.raises(UserError, match=r"(?s)no trained classifier.*score\.weight"):
        Classifier(str(start))  # a language model: the head would be random numbers
    with pytest.raises(UserError, match="Classifier .* does not exist"):
        Classifier(str(tmp_path / "nowhere"))
