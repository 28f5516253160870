"""Phase versions: which versions there are, which one answers, and how two of them compare.

python main.py --phase versions                        # or: versions list
python main.py --phase versions promote v1
python main.py --phase versions rollback               # the version that was live before is live again
python main.py --phase versions compare v1 ppo
"""

from collections.abc import Callable

from rlhf.chat.feedback import FILE, FeedbackStore
from rlhf.errors import UserError, nearest
from rlhf.evaluation.terminal import aligned
from rlhf.evaluation.versus import duel_table, verdict
from rlhf.registry import Registry, Version
from rlhf.run import Run

SHOWN = ("gold", "reward", "kl", "length")
"""Metrics in the list of versions."""


def run_phase(run: Run) -> dict[str, float]:
    """Do what the words after the phase's name ask for; without any, list.

    Raises:
        UserError: another word, a missing name, or what the registry refuses.
    """
    command, *names = run.given.words or ("list",)
    commands: dict[str, tuple[int, Callable[..., str]]] = {
        "list": (0, list_versions),
        "promote": (1, promote),
        "rollback": (0, roll_back),
        "compare": (2, compare),
    }
    if command not in commands:
        raise UserError(f"Unknown command {command!r} for versions.", expected="list, promote NAME, rollback, "
                        "or compare A B", remedy=nearest(command, commands))  # fmt: skip
    wanted, function = commands[command]
    if len(names) != wanted:
        expected = f"versions {command}{' NAME' if wanted == 1 else ' A B' if wanted else ''}"
        raise UserError(f"versions {command} takes {wanted} name{'s' * (wanted != 1)}.", expected=expected,
                        found=" ".join(names) or "none")  # fmt: skip
    print(function(run, Registry(run.folder), *names))
    return {}


def list_versions(run: Run, registry: Registry) -> str:
    """A line a version: state, parent, when it was made, how it did, what it has learned from."""
    versions = registry.versions()
    if not versions:
        registry.live()  # says what makes one
    rows = [["version", "state", "parent", "made", *SHOWN, "new pairs"]]
    for version in versions:
        metrics = [_number(version.metrics.get(name)) for name in SHOWN]
        made = version.created.replace("T", " ")[:16]
        rows.append([version.name, version.state, version.parent or "–", made, *metrics, _pairs(version)])
    return "\n".join(aligned(rows))


def promote(run: Run, registry: Registry, name: str) -> str:
    before = registry.live().name
    registry.promote(name)
    if name == before:
        return f"{name} is live already."
    return f"{name} is live, {before} is retired. To go back: {run.command('versions')} rollback"


def roll_back(run: Run, registry: Registry) -> str:
    before = registry.live().name
    return f"{registry.rollback().name} is live again, {before} is retired."


def compare(run: Run, registry: Registry, one: str, other: str) -> str:
    """Where one was made from the other, how they did on the same prompts; else each one's own numbers. And duels."""
    a, b = registry.get(one), registry.get(other)
    kin = [(c, p) for c, p in ((a, b), (b, a)) if c.parent == p.name and c.metrics]
    parts = ["\n".join(aligned([*_side_by_side(a, b), *([] if kin else _metrics(a, b))]))]
    for child, parent in kin:
        parts += ["On the same held-out prompts and pairs:\n" + duel_table(child.metrics, child.name, parent.name),
                  verdict(child.metrics, child.name, parent.name)]  # fmt: skip
    parts += _standings(run)
    return "\n\n".join(parts)


def _side_by_side(a: Version, b: Version) -> list[list[str]]:
    rows = [["", a.name, b.name]]
    rows += [[key, str(getattr(a, key) or "–"), str(getattr(b, key) or "–")]
             for key in ("state", "parent", "created", "folder", "reward")]  # fmt: skip
    return rows + [
        ["new pairs", _pairs(a), _pairs(b)],
        ["replayed pairs", _count(a, "replayed"), _count(b, "replayed")],
    ]


def _metrics(a: Version, b: Version) -> list[list[str]]:
    """Each one's own; they were not measured on the same prompts."""
    names = [name for name in {**a.metrics, **b.metrics} if "/" not in name]
    return [[name, _number(a.metrics.get(name)), _number(b.metrics.get(name))] for name in names]


def _standings(run: Run) -> list[str]:
    """How versions stand by people's duels; nothing where there were none."""
    path = run.folder / FILE
    if not path.is_file():
        return []
    from rlhf.chat.serving.outcomes import Outcomes

    with FeedbackStore(path, create=False) as store:
        found = Outcomes(store).standings()
    if not found:
        return []
    rows = [["version", "strength", "95% interval", "duels"]]
    rows += [[str(s.version), f"{s.strength:+.2f}", f"[{s.low:+.2f}, {s.high:+.2f}]", str(s.n)]
             for s in found]  # fmt: skip
    return ["By people's duels between versions (Bradley-Terry):\n" + "\n".join(aligned(rows))]


def _pairs(version: Version) -> str:
    kinds = version.data.get("pairs")
    if not isinstance(kinds, dict):
        return "–"
    return f"{sum(kinds.values())} ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))})"


def _count(version: Version, key: str) -> str:
    return str(version.data.get(key, "–"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
