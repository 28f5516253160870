"""How threads wait: by what else the machine does, unless the user has said."""

import os

import psutil
import pytest

from rlhf.threads import choose_wait_policy


@pytest.mark.parametrize(
    ("percent", "count", "policy"),
    [(0.0, 2, "ACTIVE"), (20.0, 2, "ACTIVE"), (50.0, 2, "PASSIVE"), (7.0, 16, "PASSIVE"), (2.0, 16, "ACTIVE")],
)
def test_threads_spin_on_a_quiet_machine_and_sleep_beside_a_busy_process(monkeypatch, percent, count, policy):
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    monkeypatch.setenv("OMP_WAIT_POLICY", "")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: percent)
    choose_wait_policy()
    assert os.environ["OMP_WAIT_POLICY"] == policy


def test_what_the_user_has_set_stands(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: 0.0)
    choose_wait_policy()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
