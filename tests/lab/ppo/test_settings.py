"""PPO's settings: what is out of range, and what `--set` may change."""

import ast
import inspect
from dataclasses import fields, replace

import pytest

from lab.ppo.settings import TASKS, Settings, changed, usual
from rlhf.errors import UserError


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"environments": 0}, {"horizon": 0}, {"batch": 1}, {"epochs": 0}, {"gamma": 1.01}, {"gamma": -0.1},
     {"lam": 1.5}, {"lam": float("nan")}, {"learning_rate": 0.0}, {"learning_rate": float("inf")}, {"clip": 0.0},
     {"clip": float("nan")}, {"max_norm": 0.0}, {"value_weight": -1.0}, {"entropy_weight": -0.1},
     {"learning_rate_course": "up"}, {"clip_course": "down"}, {"hidden": (64, 0)}, {"critic_hidden": (-1,)},
     {"noise_every": -1}, {"log_std": float("nan")}],
    ids=str,
)  # fmt: skip
def test_what_is_out_of_range_is_refused(wrong):
    with pytest.raises(UserError, match=f"setting {next(iter(wrong))} is out of range"):
        Settings(**wrong)
    with pytest.raises(UserError, match="out of range"):
        replace(TASKS["Pendulum-v1"].settings, **wrong)


def test_the_ends_of_the_ranges_are_allowed():
    Settings(steps=1, environments=1, horizon=1, batch=2, epochs=1, gamma=0.0, lam=1.0, value_weight=0.0, hidden=(),
             critic_hidden=(), noise_every=0)  # fmt: skip


def test_some_settings_change_and_the_others_stay():
    before = TASKS["CartPole-v1"].settings
    after = changed(before, {"learning_rate": 3e-4, "hidden": [32, 32], "noise_every": None, "normalise": True})
    assert after == replace(before, learning_rate=3e-4, hidden=(32, 32), noise_every=None, normalise=True)
    assert changed(before, {}) == before == TASKS["CartPole-v1"].settings


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"learning_rat": 1e-3}, "did you mean learning_rate"), ({"xyz": 1}, "known: .*epochs"),
     ({"steps": "many"}, "steps: .*'many'"), ({"epochs": 2.5}, "epochs: .*2.5"), ({"hidden": [8, "a"]}, "hidden.1: "),
     ({"hidden": 8}, "hidden: "), ({"clip_course": "up"}, "'constant', 'linear' or 'cosine'"),
     ({"gamma": 2}, "gamma is out of range"), ({"learning_rate": None}, "learning_rate: ")],
)  # fmt: skip
def test_a_change_of_an_unknown_name_or_a_wrong_type_is_refused(changes, named):
    with pytest.raises(UserError, match=named):
        changed(Settings(), changes)


def test_environments_without_settings_of_their_own_have_the_defaults():
    assert usual("MountainCar-v0") == Settings() and usual("Acrobot-v1") is TASKS["Acrobot-v1"].settings


def test_every_setting_says_what_it_is():
    (kind,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(kind, ast.ClassDef)
    told = [
        before.target.id
        for before, after in zip(kind.body, kind.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    ]  # fmt: skip
    assert told == [field.name for field in fields(Settings)]
