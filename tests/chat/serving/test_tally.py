"""Counts that are written now and then, none of them lost."""

from hypothesis import given
from hypothesis import strategies as st

from rlhf.chat.serving.tally import Tally


def test_at_once_and_then_once_a_minute():
    now, told = [0.0], []
    tally = Tally(lambda name, count: told.append((now[0], name, count)), lambda: now[0])
    for second in (0, 1, 2, 59, 60, 61, 130, 400):
        now[0] = float(second)
        tally.add("ann")
    assert told == [(0, "ann", 1), (60, "ann", 4), (130, "ann", 2), (400, "ann", 1)]


def test_one_name_s_count_is_written_when_another_one_is_counted():
    now, told = [0.0], []
    tally = Tally(lambda name, count: told.append((name, count)), lambda: now[0])
    for name in ("ann", "ann", "ann", "bob"):
        tally.add(name)
    now[0] = 70.0
    tally.add("cy")
    assert told == [("ann", 1), ("bob", 1), ("ann", 2), ("cy", 1)] and "bob" not in tally._counts
    tally.flush()
    assert len(told) == 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 90)), max_size=40))
def test_nothing_is_lost_and_no_name_is_written_twice_a_minute(calls):
    now, told = [0.0], []
    tally = Tally(lambda name, count: told.append((now[0], name, count)), lambda: now[0])
    for name, gap in calls:
        now[0] += gap
        tally.add(name)
    for name in "abc":
        times = [at for at, who, _ in told if who == name]
        assert all(later - earlier >= 60 for earlier, later in zip(times, times[1:], strict=False))
    tally.flush()
    for name in "abc":
        assert sum(count for _, who, count in told if who == name) == [who for who, _ in calls].count(name)
