"""Schedules at points worked out by hand, and what holds of each at every point."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.schedules import constant, cosine, exponential, linear
from rlhf.errors import UserError

VALUES = st.floats(1e-3, 1e3)
PROGRESS = st.floats(0, 1)


def test_values_by_hand() -> None:
    assert constant(0.3)(0.7) == 0.3
    assert linear(1, 0)(0.25) == 0.75
    assert linear(1.0, 0.04, fraction=0.16)(0.08) == pytest.approx(0.52)
    assert exponential(1, 0.01)(0.5) == pytest.approx(0.1)
    assert cosine(1, 0)(0.5) == pytest.approx(0.5)
    assert cosine(1, 0)(1 / 3) == pytest.approx(0.75)  # cos 60° = 1/2


def test_linear_is_level_after_its_fraction() -> None:
    schedule = linear(1.0, 0.04, fraction=0.16)
    assert schedule(0.16) == schedule(0.5) == schedule(1.0) == pytest.approx(0.04)


@pytest.mark.parametrize("kind", [linear, exponential, cosine])
@given(start=VALUES, end=VALUES, progress=PROGRESS)
def test_begins_and_ends_where_told_and_stays_between(kind, start, end, progress) -> None:
    schedule = kind(start, end)
    assert schedule(0.0) == pytest.approx(start) and schedule(1.0) == pytest.approx(end)
    assert min(start, end) * (1 - 1e-9) <= schedule(progress) <= max(start, end) * (1 + 1e-9)


@pytest.mark.parametrize("kind", [linear, exponential, cosine])
@given(first=PROGRESS, second=PROGRESS)
def test_never_turns(kind, first, second) -> None:
    schedule = kind(2.0, 0.5)
    assert schedule(min(first, second)) >= schedule(max(first, second)) - 1e-12


@pytest.mark.parametrize("kind", [linear, exponential, cosine])
def test_progress_outside_is_the_nearer_end(kind) -> None:
    assert kind(2.0, 0.5)(1.7) == pytest.approx(0.5) and kind(2.0, 0.5)(-0.1) == pytest.approx(2.0)


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, float("nan")])
def test_refuses_a_fraction_out_of_range(fraction) -> None:
    with pytest.raises(UserError, match="fraction"):
        linear(1, 0, fraction)


@pytest.mark.parametrize("ends", [(0, 1), (1, 0), (-1, 1)])
def test_refuses_an_exponential_through_zero(ends) -> None:
    with pytest.raises(UserError, match="exponential"):
        exponential(*ends)
