"""The clock that stands still while a policy is measured, and the measuring."""

import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import GPTNeoForSequenceClassification
from trl.experimental.utils import get_reward

from benchmarks import curve
from benchmarks.curve import Curve, HeldOut, PausingClock
from benchmarks.stock import with_our_scale
from reward_model import Normalisation, RewardModel
from rlhf.encoding import Encoder
from tests.phases.helpers import prompt


@pytest.fixture
def times(monkeypatch):
    """Sets what the clock reads, one after the other."""

    def set_to(*values):
        monkeypatch.setattr(curve, "now", iter(values).__next__)

    return set_to


def test_pauses_are_not_on_the_clock(times):
    times(0.0, 100.0, 103.0, 110.0, 112.0, 119.0)
    clock = PausingClock()
    clock.start()
    with clock.paused("benchmark") as first:
        pass
    with clock.paused("evaluation") as second:
        pass
    assert (first, second) == (3.0, 5.0)
    assert clock.pauses == {"benchmark": 7.0, "evaluation": 7.0}


def test_the_clock_goes_on_after_an_error(times):
    times(0.0, 0.0, 2.0, 50.0, 51.0, 60.0)
    clock = PausingClock()
    clock.start()
    with pytest.raises(ZeroDivisionError), clock.paused("benchmark"):
        raise ZeroDivisionError
    with clock.paused("benchmark") as seconds:
        pass
    assert seconds == 3.0


def measuring_with(value):
    """Measures every policy as what `value` makes of it."""
    return SimpleNamespace(curve_point=lambda p: {"reward": value(p)}, final_test=lambda p: {"reward": -value(p)})


def drive(watch, updates, steps):
    """The callbacks in the order in which both trainers call them; a policy is the number of its update."""
    state = SimpleNamespace(global_step=0, max_steps=updates, episode=0)
    watch.on_train_begin(None, state, None, model=SimpleNamespace(policy=0))
    for update in range(1, steps + 1):
        state.global_step, state.episode = update, 4 * update
        watch.on_step_end(None, state, None, model=SimpleNamespace(policy=update))
    kept = torch.nn.Linear(2, 3)
    watch.held_out = measuring_with(lambda policy: 9.0)
    optimizer = SimpleNamespace(state={"weight": {"step": torch.tensor(8.0)}})
    watch.on_train_end(None, state, None, model=SimpleNamespace(policy=kept), optimizer=optimizer)


def test_a_curve_has_the_first_policy_every_few_updates_and_the_last(times):
    times(0.0, *(float(n) for n in range(100)))
    watch = Curve(measuring_with(float), PausingClock(), every=2)
    drive(watch, updates=5, steps=5)
    found = watch.result
    assert [(p["update"], p["episodes"], p["reward"]) for p in found["curve"]] == [
        (0, 0, 0.0), (2, 8, 2.0), (4, 16, 4.0), (5, 20, 5.0),
    ]  # fmt: skip
    # the clock reads 0, 1, 2 …: one second between pauses, and each pause takes one, too
    assert [p["seconds"] for p in found["curve"]] == [1.0, 2.0, 3.0, 4.0]
    assert found["left_out_seconds"] == {"benchmark": 6.0}
    assert (found["test_last"]["reward"], found["kept"]["reward"], found["test_kept"]["reward"]) == (-5.0, 9.0, -9.0)
    assert (found["optimizer_steps"], found["trained_policy_weights"]) == (8, 9)


def test_a_training_that_stops_early_is_no_comparison(times):
    times(0.0, *(float(n) for n in range(100)))
    with pytest.raises(RuntimeError, match="update 3 of 5"):
        drive(Curve(measuring_with(float), PausingClock(), every=2), updates=5, steps=3)


@pytest.fixture
def held_out(lively, tokenizer, config, shape):
    torch.manual_seed(1)
    reward_model = RewardModel(classifier(lively), tokenizer.pad_token_id, Normalisation(0.1, 0.5, 2))
    prompts = [prompt(word) for word in ("cat", "moon", "star")]
    return HeldOut(
        encoder=Encoder(tokenizer, config.data), validation=prompts, test=prompts, reference=lively,
        reward_model=reward_model, judge=lambda p, text: len(text) / 100, temperature=1.0, kl_coef=0.5, clip=5.0,
        missing_eos_penalty=1.0, seed=0,
    )  # fmt: skip


def classifier(model):
    model.config.num_labels = 1
    return GPTNeoForSequenceClassification(model.config)


def test_measuring_changes_nothing_and_is_equal_each_time(held_out, lively):
    lively.train()
    before = torch.random.get_rng_state()
    first, again = held_out.curve_point(lively), held_out.curve_point(lively)
    assert lively.training and torch.equal(torch.random.get_rng_state(), before)
    assert first == again
    assert first["kl"] == 0.0 and first["objective"] == first["reward"]
    assert first["gold"] > 0 and first["length"] > 0


def test_a_policy_away_from_the_reference_has_kl_and_a_penalty_on_it(held_out, lively):
    other = copy.deepcopy(lively)
    with torch.no_grad():
        other.transformer.wte.weight.mul_(1.05)
    found = held_out.curve_point(other)
    assert found["kl"] != 0.0
    assert found["objective"] == pytest.approx(found["reward"] - 0.5 * found["kl"])


def test_the_stock_trainers_reward_is_ours(lively, tokenizer):
    """Padded on the left and ended early, as the stock trainer scores, against single sequences as ours does."""
    torch.manual_seed(2)
    network, pad = classifier(lively).eval(), tokenizer.pad_token_id
    network.score.weight.data.mul_(300)
    ours = RewardModel(network, pad, Normalisation(0.3, 0.7, 2)).score_ids([[11, 12, 20, 21], [10, 13, 14, 22]])
    stock = with_our_scale(network, Normalisation(0.3, 0.7, 2), clip=1.5)
    rows = torch.tensor([[pad, 11, 12, 20, 21, pad], [10, 13, 14, 22, pad, pad]])
    with torch.no_grad():
        _, scores, _ = get_reward(stock, rows, pad, 3)
    assert ours.abs().max() > 1.5 > ours.abs().min()  # one is clipped, one is not
    torch.testing.assert_close(scores, ours.clamp(-1.5, 1.5), atol=1e-4, rtol=1e-4)
