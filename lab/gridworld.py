"""Grid worlds from a text map, as Gymnasium environments: walls, wind, slips, cliffs, jumps, ends.

grid = Grid((
    "....",
    ".#.C",
    "S..G",
), slip=0.2, rewards={"C": -100.0})
environment = GridWorld(grid)                             # or gymnasium.make("lab.gridworld:lab/CliffWalking-v0")
environment.P[8][0]                                       # what can follow: as Gymnasium's toy texts tell it
environment.model.transitions                             # (S, A, S), for lab.dynamic_programming

The state is the number of the cell, row by row. Actions are numbers of `moves`, by default up, right, down, left.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from lab.dynamic_programming import Array, Model, Outcome, model_of
from rlhf.errors import UserError

Move = tuple[int, int]
"""Rows down, columns to the right."""
FOUR: tuple[Move, ...] = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Up, right, down, left."""
EIGHT: tuple[Move, ...] = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""The king's, clockwise from up."""
SIDEWAYS: tuple[Move, ...] = ((0, -1), (0, 1))
"""Left, right."""
WALL, CLIFF, START = "#", "C", "S"


def _need(true: bool, expected: str, found: object) -> None:
    if not true:
        raise UserError("This map with these rules is no grid world.", expected=expected, found=str(found))


@dataclass(frozen=True)
class Grid:
    """A world: its map and its rules.

    On the map, `#` is a wall, `S` a start, `C` a cliff: who lands there is sent back to a start. Other letters mean
    what the rules say of them. Without a start on the map, any open cell is one.

    A move goes sideways first, then up or down, cell by cell as far as no wall or edge is in the way; only the cell
    it arrives in counts.

    Raises:
        UserError: the map or the rules make no world.
    """

    map: tuple[str, ...]
    """Rows of equal length."""
    moves: tuple[Move, ...] = FOUR
    """One for each action; neighbours in this order are where a slip leads."""
    ends: str = "G"
    """Letters of the cells that end the episode."""
    step: float = -1.0
    """Reward of a step, where nothing else is said."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Letter → reward of arriving there."""
    bump: float | None = None
    """Reward of a move that a wall or the edge stopped. Default: that of any other step."""
    jumps: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """Letter → letter of the cell where every action leads from there, and its reward."""
    wind: tuple[int, ...] = ()
    """Cells up that each column moves whoever leaves it. Default: no wind."""
    gusts: bool = False
    """The wind, where there is any, is one less or one more, each a third of the time."""
    slip: float = 0.0
    """Probability that the action is one of its two neighbours, half each."""

    def __post_init__(self) -> None:
        widths = {len(row) for row in self.map}
        _need(len(widths) == 1 and widths != {0}, "rows of one length", self.map)
        _need(len(self.wind) in (0, *widths), "as many winds as columns", self.wind)
        _need(0 <= self.slip <= 1, "a slip from 0 to 1", self.slip)
        _need(len(self.moves) > 0, "at least one move", self.moves)
        _need(not {WALL, CLIFF, START} & {*self.ends}, "ends other than #, C and S", self.ends)
        _need(START in self.letters or CLIFF not in self.letters, "a start S to come back to from cliffs", self.map)
        for start, (target, _) in self.jumps.items():
            _need(start in self.letters, f"a cell {start} on the map, from which it jumps", self.map)
            _need(self.letters.count(target) == 1, f"one cell {target} on the map, where the jump leads", self.map)
        _need(len(self.starts) > 0, "an open cell to start from", self.map)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return len(self.map), len(self.map[0])

    @property
    def letters(self) -> str:
        """Of all cells, by the number of the state."""
        return "".join(self.map)

    @property
    def starts(self) -> list[int]:
        """Cells that an episode can begin in, each as likely."""
        marked = [cell for cell, letter in enumerate(self.letters) if letter == START]
        closed = {WALL, CLIFF, *self.ends}
        return marked or [cell for cell, letter in enumerate(self.letters) if letter not in closed]

    def outcomes(self, cell: int, action: int) -> list[Outcome]:
        """What can happen: probability, next cell, reward, whether it ends; equal ones taken together."""
        letter = self.letters[cell]
        if letter == WALL or letter in self.ends:
            return [(1.0, cell, 0.0, True)]
        if letter in self.jumps:
            target, reward = self.jumps[letter]
            return [(1.0, self.letters.index(target), reward, target in self.ends)]
        together: dict[tuple[int, float, bool], float] = defaultdict(float)
        for turned, likely in self._slips(action):
            for wind, strong in self._winds(cell):
                for landing, also in self._land(cell, self.moves[turned], wind):
                    together[landing] += likely * strong * also
        return [(probability, *landing) for landing, probability in together.items()]

    def _slips(self, action: int) -> list[tuple[int, float]]:
        """Actions that may be taken instead of this one, with their probabilities."""
        many = len(self.moves)
        sides = [((action + side) % many, self.slip / 2) for side in (-1, 1)]
        return [(turned, p) for turned, p in [(action, 1 - self.slip), *sides] if p > 0]

    def _winds(self, cell: int) -> list[tuple[int, float]]:
        wind = self.wind[cell % self.shape[1]] if self.wind else 0
        return [(wind + more, 1 / 3) for more in (-1, 0, 1)] if wind and self.gusts else [(wind, 1.0)]

    def _land(self, cell: int, move: Move, wind: int) -> list[tuple[tuple[int, float, bool], float]]:
        """Where a move in this wind leads: cell, reward, whether it ends; from a cliff, each start as likely."""
        arrived, stopped = self._walk(cell, move[0] - wind, move[1])
        letter = self.letters[arrived]
        usual = self.step if self.bump is None or not stopped else self.bump
        reward = self.rewards.get(letter, usual)
        targets = self.starts if letter == CLIFF else [arrived]
        return [((target, reward, letter in self.ends), 1 / len(targets)) for target in targets]

    def _walk(self, cell: int, down: int, right: int) -> tuple[int, bool]:
        """The cell reached, and whether something was in the way."""
        row, column = divmod(cell, self.shape[1])
        stopped = False
        for rows, columns in [(0, np.sign(right))] * abs(right) + [(np.sign(down), 0)] * abs(down):
            if self._open(row + rows, column + columns):
                row, column = row + int(rows), column + int(columns)
            else:
                stopped = True
        return row * self.shape[1] + column, stopped

    def _open(self, row: int, column: int) -> bool:
        rows, columns = self.shape
        return 0 <= row < rows and 0 <= column < columns and self.map[row][column] != WALL


class GridWorld(gymnasium.Env[Any, Any]):
    """A `Grid` to act in.

    Args:
        grid: the world.
        render_mode: "ansi": `render` gives the map as text, with the agent as `@`.

    Attributes:
        P: state → action → outcomes, as Gymnasium's toy texts have it.
        initial_state_distrib: (S,), probability that an episode begins there.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}

    def __init__(self, grid: Grid, render_mode: str | None = None) -> None:
        self.grid, self.render_mode = grid, render_mode
        states, actions = len(grid.letters), len(grid.moves)
        self.observation_space, self.action_space = Discrete(states), Discrete(actions)
        self.P = {cell: {a: grid.outcomes(cell, a) for a in range(actions)} for cell in range(states)}
        self.initial_state_distrib: Array = np.bincount(grid.starts, minlength=states) / len(grid.starts)
        self._cell = grid.starts[0]

    @cached_property
    def model(self) -> Model:
        """The exact model as arrays: transitions (S, A, S), expected rewards (S, A), ends (S,)."""
        return model_of(self)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self._cell = int(self.np_random.choice(self.grid.starts))
        return self._cell, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        outcomes = self.P[self._cell][int(action)]
        chosen = self.np_random.choice(len(outcomes), p=[outcome[0] for outcome in outcomes])
        _, self._cell, reward, ends = outcomes[chosen]
        return self._cell, reward, ends, False, {}

    def render(self) -> str | None:
        """The map, with `@` where the agent is; None without a render mode."""
        if self.render_mode is None:
            return None
        letters = self.grid.letters[: self._cell] + "@" + self.grid.letters[self._cell + 1 :]
        width = self.grid.shape[1]
        return "\n".join(letters[start : start + width] for start in range(0, len(letters), width)) + "\n"


SMALL = Grid(("G...", "....", "....", "...G"))
"""Sutton and Barto, example 4.1."""
JUMPS = Grid((".A.B.", ".....", "...b.", ".....", ".a..."), ends="", step=0.0, bump=-1.0,
             jumps={"A": ("a", 10.0), "B": ("b", 5.0)})  # fmt: skip
"""Example 3.5; it never ends."""
CLIFFS = Grid(("............",) * 3 + ("SCCCCCCCCCCG",), rewards={"C": -100.0})
"""Example 6.6."""
WINDY = Grid(
    ("..........",) * 3 + ("S......G..",) + ("..........",) * 3, wind=(0, 0, 0, 1, 1, 1, 2, 2, 1, 0)
)  # fmt: skip
"""Example 6.5."""
KING = Grid(WINDY.map, moves=EIGHT, wind=WINDY.wind)
"""Exercise 6.9."""
GUSTS = Grid(WINDY.map, moves=EIGHT, wind=WINDY.wind, gusts=True)
"""Exercise 6.10."""
WALK = Grid(("L..S..R",), moves=SIDEWAYS, ends="LR", step=0.0, rewards={"R": 1.0})
"""Example 6.2."""
MAZE = Grid((".......#G", "..#....#.", "S.#....#.", "..#......", ".....#...", "........."), step=0.0,
            rewards={"G": 1.0}, slip=0.1)  # fmt: skip
"""The maze of example 8.1, where feet slip."""
IDS = {
    "lab/SmallGrid-v0": SMALL, "lab/JumpGrid-v0": JUMPS, "lab/CliffWalking-v0": CLIFFS, "lab/WindyGrid-v0": WINDY,
    "lab/WindyKing-v0": KING, "lab/GustyKing-v0": GUSTS, "lab/RandomWalk-v0": WALK, "lab/SlipperyMaze-v0": MAZE,
}  # fmt: skip
"""Registered with Gymnasium when this module is imported."""


for _id, _grid in IDS.items():
    gymnasium.register(_id, entry_point="lab.gridworld:GridWorld", kwargs={"grid": _grid})
