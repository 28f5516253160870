"""Early stopping: the rule by itself, and a trainer that obeys it, over a break as well."""

import pytest
import torch

from rlhf.config import PPOSection, parse_config
from rlhf.early_stop import reason_to_stop
from rlhf.errors import UserError
from tests.conftest import SMALL
from tests.ppo_world import SHORT, lengths, make_trainer, same, watched, weights

RUN = SHORT | {"total_episodes": 40, "eval_steps": 1, "kl_coef": 0.0}


def test_by_default_nothing_stops():
    assert reason_to_stop(PPOSection(), kl=1e9, without_a_better=10**6) is None


@pytest.mark.parametrize(
    ("kl", "without_a_better", "named"),
    [(2.0, 2, None), (2.001, 0, "stop_at_kl=2"), (-5.0, 3, "patience=3"), (float("nan"), 0, None)],
)
def test_the_rule(kl, without_a_better, named):
    reason = reason_to_stop(PPOSection(stop_at_kl=2.0, patience=3), kl, without_a_better)
    assert (reason is None) == (named is None) and (named or "") in (reason or "")


def held_out(values):
    """A score that gives these in turn to the evaluations, and the length of replies to training."""
    calls = iter(range(100))

    def score(prompts, replies):
        call = next(calls)
        return lengths(prompts, replies) if call % 2 else torch.full((len(replies),), float(values[call // 2]))

    return score


@pytest.mark.parametrize(
    ("patience", "values", "updates", "best"),
    [(2, [0, 3, 1, 2, 9, 9], 3, 1), (3, [0, 3, 1, 2, 4, 1, 1, 4, 9], 7, 4), (1, [5, 5, 9], 1, 0)],
)
def test_falling_held_out_rewards_end_the_run_and_the_best_policy_is_kept(
    tmp_path, start, tokenizer, capsys, patience, values, updates, best
):
    settings = PPOSection(reward_clip=None, patience=patience)
    trainer = make_trainer(tmp_path, start, tokenizer, held_out(values), settings, **RUN)
    seen = [weights(trainer)]
    watch = watched(trainer, lambda update, control: seen.append(weights(trainer)))
    trainer.train()
    assert trainer.state.global_step == updates < trainer.state.max_steps
    reason = f"no better held-out objective in {patience} evaluations, ppo.patience={patience}"
    assert watch.rows[-1]["stopped"] == reason
    assert watch.rows[-1]["best/update"] == best
    assert same(weights(trainer), seen[best])
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("stopped early")] == [
        f"stopped early, after update {updates}: {reason}"
    ]


def test_a_run_that_comes_to_its_end_was_not_stopped(tmp_path, start, tokenizer, capsys):
    settings = PPOSection(reward_clip=None, patience=2)
    trainer = make_trainer(tmp_path, start, tokenizer, held_out([9] + [0] * 9), settings, **RUN | {"total_episodes": 8})
    watch = watched(trainer)
    trainer.train()
    assert trainer.state.global_step == 2 and "stopped" not in watch.rows[-1]
    assert "stopped early" not in capsys.readouterr().out


WANTED = 42


def rewards_a_token(prompts, replies):
    return torch.tensor([sum(token == WANTED for token in reply) / 2 for reply in replies])


@pytest.mark.slow
def test_a_policy_that_runs_from_its_reference_is_stopped(tmp_path, start, tokenizer):
    def train(**settings):
        torch.manual_seed(0)
        trainer = make_trainer(
            tmp_path, start, tokenizer, rewards_a_token, PPOSection(eval_prompts=16, **settings),
            total_episodes=64 * 25, per_device_train_batch_size=64, gradient_accumulation_steps=1,
            learning_rate=2e-2, kl_coef=0.0, eval_steps=5,
        )  # fmt: skip
        watch = watched(trainer)
        trainer.train()
        return trainer, watch

    _, free = train()
    stopped, watch = train(stop_at_kl=4.0)
    assert max(free["objective/kl"]) > 8  # what it learns leads far away
    assert stopped.state.global_step < 25
    assert watch["objective/kl"][-1] > 4.0 and max(watch["objective/kl"][:-1]) <= 4.0
    assert watch["objective/kl"] == free["objective/kl"][: stopped.state.global_step]  # up to there, nothing changes
    assert "stop_at_kl=4" in watch.rows[-1]["stopped"]
    assert watch["eval/objective"][-1] > watch["eval/objective"][0] + 0.1  # evaluated once more; it has learned by then


def test_the_patience_counter_and_the_stop_survive_a_break(tmp_path, start, tokenizer):
    """Evaluations: 0, 3, 1 | 2, 0. Broken off at |, the third in a row without a better one is still the third."""
    settings = PPOSection(reward_clip=None, patience=3)
    run = RUN | {"save_steps": 1, "save_total_limit": None}

    def fresh(values):
        torch.manual_seed(0)
        trainer = make_trainer(tmp_path, start, tokenizer, held_out(values), settings, **run)
        return trainer, watched(trainer)

    def interrupt(update, control):
        if update == 3:
            raise KeyboardInterrupt

    broken, watch = fresh([0, 3, 1, 2, 0, 9])
    watch.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed, watch = fresh([2, 0, 9])
    training_first = iter(range(100))  # a resumed run begins with a rollout, not with an evaluation
    evaluate = resumed.sampler.score
    resumed.sampler.score = lambda *ids: lengths(*ids) if next(training_first) == 0 else evaluate(*ids)
    resumed.train(str(tmp_path / "out" / "checkpoint-2"))
    assert resumed.state.global_step == 4
    assert watch.rows[-1]["best/update"] == 1 and "patience=3" in watch.rows[-1]["stopped"]

    again, watch = fresh([9] * 9)  # killed behind its last checkpoint: a stopped run stays stopped
    again.train(str(tmp_path / "out" / "checkpoint-4"))
    assert again.state.global_step == 4 and same(weights(again), weights(resumed))
    assert [{k: v for k, v in row.items() if k not in ("train_runtime", "epoch")} for row in watch.rows] == [
        {"best/update": 1, "best/objective": 3.0, "stopped": resumed.stopped}
    ]


def test_patience_without_held_out_prompts_is_refused(tmp_path, start, tokenizer):
    with pytest.raises(UserError, match=r"ppo\.patience needs held-out prompts"):
        parse_config(SMALL | {"ppo": {"patience": 2, "eval_prompts": 0}})
    from datasets import Dataset

    import tests.ppo_world as world

    trainer = make_trainer(tmp_path, start, tokenizer, lengths)
    with pytest.raises(UserError, match="no held-out prompts"):
        world.RLHFTrainer(
            trainer.args, PPOSection(patience=2), tokenizer, trainer.backbone, lengths,
            Dataset.from_list([{"input_ids": [10]}] * 16),
        )  # fmt: skip
