"""Grid worlds: what a move does, by hand, and as a Gymnasium environment."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from lab import gridworld
from lab.dynamic_programming import model_of
from lab.gridworld import EIGHT, IDS, Grid, GridWorld
from rlhf.errors import UserError

UP, RIGHT, DOWN, LEFT = range(4)


def outcomes(grid: Grid, cell: int, action: int) -> dict[int, float]:
    """Next cell → probability."""
    return {following: pytest.approx(p) for p, following, _, _ in grid.outcomes(cell, action)}


def test_moves_walls_and_edges():
    grid = Grid(("..#", "..G"))
    assert grid.outcomes(0, RIGHT) == [(1.0, 1, -1.0, False)]
    assert grid.outcomes(1, RIGHT) == [(1.0, 1, -1.0, False)]  # a wall
    assert grid.outcomes(0, UP) == grid.outcomes(0, LEFT) == [(1.0, 0, -1.0, False)]  # edges
    assert grid.outcomes(1, DOWN) == [(1.0, 4, -1.0, False)]
    assert grid.outcomes(4, RIGHT) == [(1.0, 5, -1.0, True)]
    assert grid.outcomes(5, LEFT) == [(1.0, 5, 0.0, True)]  # nothing leads out of an end


def test_a_slip_goes_to_either_side():
    grid = Grid(("...", "...", "..."), slip=0.2, ends="")
    assert outcomes(grid, 4, UP) == {1: 0.8, 3: 0.1, 5: 0.1}
    assert outcomes(grid, 0, UP) == {0: 0.9, 1: 0.1}  # up and left are stopped by edges


def test_a_slip_of_the_king_is_half_a_turn_less():
    grid = Grid(("...", "...", "..."), moves=EIGHT, slip=0.5, ends="")
    assert outcomes(grid, 4, 0) == {1: 0.5, 0: 0.25, 2: 0.25}


def test_wind_is_that_of_the_column_left_and_stops_at_the_edge():
    grid = Grid(("...", "...", "..."), wind=(0, 1, 2), ends="")
    assert outcomes(grid, 6, RIGHT) == {7: 1.0}  # no wind where it stood
    assert outcomes(grid, 7, RIGHT) == {5: 1.0}
    assert outcomes(grid, 8, LEFT) == {1: 1.0}
    assert outcomes(grid, 5, LEFT) == {1: 1.0}  # two up, but there is only one row
    assert outcomes(grid, 2, DOWN) == {2: 1.0}  # one down, two up


def test_gusts_are_one_more_or_less_where_wind_blows():
    grid = Grid(("...", "...", "..."), wind=(0, 1, 0), gusts=True, ends="")
    assert outcomes(grid, 7, RIGHT) == {8: 1 / 3, 5: 1 / 3, 2: 1 / 3}
    assert outcomes(grid, 6, RIGHT) == {7: 1.0}


def test_wind_blows_up_to_a_wall():
    assert outcomes(Grid(("..", "#.", ".."), wind=(2, 0), ends=""), 4, UP) == {4: 1.0}


def test_a_cliff_sends_back_to_a_start():
    grid = Grid(("S.", "CG"), rewards={"C": -100.0})
    assert grid.outcomes(0, DOWN) == [(1.0, 0, -100.0, False)]
    two = Grid(("SS", ".C"), rewards={"C": -7.0})
    assert two.outcomes(2, RIGHT) == [(0.5, 0, -7.0, False), (0.5, 1, -7.0, False)]


def test_rewards_of_bumps_arrivals_and_jumps():
    grid = Grid(("A.", "aG"), step=0.0, bump=-1.0, rewards={"G": 5.0}, jumps={"A": ("a", 10.0)})
    assert grid.outcomes(0, UP) == [(1.0, 2, 10.0, False)]
    assert grid.outcomes(1, RIGHT) == [(1.0, 1, -1.0, False)]
    assert grid.outcomes(2, RIGHT) == [(1.0, 3, 5.0, True)]


def test_without_a_start_any_open_cell_is_one():
    assert Grid(("G.#", ".S.")).starts == [4]
    assert Grid(("G.#", "...")).starts == [1, 3, 4, 5]
    assert GridWorld(Grid(("G.#", "..."))).initial_state_distrib.tolist() == [0, 0.25, 0, 0.25, 0.25, 0.25]


@given(
    st.lists(st.text("..S#", min_size=4, max_size=4), min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from([gridworld.FOUR, EIGHT, gridworld.SIDEWAYS]),
)
def test_probabilities_sum_to_one_and_no_move_ends_in_a_wall(rows, wind, slip, gusts, moves):
    grid = Grid((*rows, "S..G"), moves=moves, wind=tuple(wind), slip=slip, gusts=gusts)
    model = GridWorld(grid).model
    np.testing.assert_allclose(model.transitions.sum(2), 1.0, atol=1e-12)
    walls = [cell for cell, letter in enumerate(grid.letters) if letter == "#"]
    others = [cell for cell in range(len(grid.letters)) if cell not in walls]
    assert model.transitions[np.ix_(others, range(len(moves)), walls)].sum() == 0


def test_our_cliffs_are_gymnasiums():
    for ours, theirs in zip(
        GridWorld(gridworld.CLIFFS).model, model_of(gymnasium.make("CliffWalking-v1")), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_frozen_lake_is_a_grid_that_slips():
    lake = Grid(("SFFF", "FHFH", "FFFH", "HFFG"), moves=((0, -1), (1, 0), (0, 1), (-1, 0)), ends="HG", step=0.0,
                rewards={"G": 1.0}, slip=2 / 3)  # fmt: skip
    for ours, theirs in zip(GridWorld(lake).model, model_of(gymnasium.make("FrozenLake-v1")), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("name", IDS)
def test_registered_worlds_pass_gymnasiums_check(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(name, render_mode="ansi").unwrapped)


def test_steps_follow_the_table_and_the_seed():
    environment = gymnasium.make("lab/GustyKing-v0")

    def walk(seed: int) -> list[tuple[int, float, bool]]:
        seen = [(environment.reset(seed=seed)[0], 0.0, False)]
        for action in [2, 2, 2, 2, 3, 4] * 5:
            before = seen[-1][0]
            state, reward, ends, cut, _ = environment.step(action)
            seen.append((state, reward, ends))
            assert (state, reward, ends) in [tuple(o[1:]) for o in environment.unwrapped.P[before][action]]
            assert not cut
        return seen

    assert walk(3) == walk(3) and len({tuple(walk(seed)) for seed in range(5)}) > 1


def test_the_map_is_drawn_with_the_agent():
    world = GridWorld(Grid(("S#.", "..G")), render_mode="ansi")
    world.reset(seed=0)
    assert world.render() == "@#.\n..G\n"
    world.step(DOWN)
    assert world.render() == "S#.\n@.G\n"
    assert GridWorld(Grid(("S.G",))).render() is None


@pytest.mark.parametrize(("rules", "word"), [
    (dict(map=("..", ".")), "one length"), (dict(map=()), "one length"), (dict(map=("##",)), "open cell"),
    (dict(map=("..",), wind=(1,)), "as many winds"), (dict(map=("..",), slip=1.5), "slip from 0 to 1"),
    (dict(map=(".C",)), "start S"), (dict(map=("A.",), jumps={"A": ("a", 1.0)}), "one cell a"),
    (dict(map=("..",), jumps={"A": (".", 1.0)}), "cell A"), (dict(map=("..",), moves=()), "one move"),
    (dict(map=("S.",), ends="S"), "ends other than"),
])  # fmt: skip
def test_a_map_or_rules_that_make_no_world_are_refused(rules, word):
    with pytest.raises(UserError, match=word):
        Grid(**rules)
