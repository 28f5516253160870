"""Everything that the phases read: demonstrations, preference pairs, prompts, plain text, mixed and split.

    rows = load_demonstrations(config, "train")
    pairs = load_preferences(config, "train", sampler)
    suites = load_ood(config, limit=200)           # {"typos": [...], "held_out": [...], …}

Splits. A row is in train, validation or test by a hash of its id, which is what is asked (`records.prompt_id`): stable
across runs, machines and the order of rows, and no prompt is in two splits, whichever sources it comes from. Rows of
`data.held_out_categories` are in none of them; they are the suite `held_out`.

Mixing. Without weights all rows of all sources are used. Weights are relative shares of the mixture: with 3 and 1,
three rows of four are of the first source; sources are subsampled, by a hash, until that holds, and no row is repeated.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import cast

from rlhf.config import Config, DataSection, SourceSpec
from rlhf.data import classroom, dolly, feedback, hh_rlhf, jsonl, oasst2
from rlhf.data.mixing import Row, Split, filled, in_split, limited, mixed, order, split_of, text_order
from rlhf.data.negatives import made_pairs
from rlhf.data.perturb import PERTURBATIONS, long_context
from rlhf.data.rows import label, locate
from rlhf.data.source import Judge, Sampler, Source
from rlhf.errors import UserError, nearest
from rlhf.records import Demonstration, Preference, Prompt

log = logging.getLogger(__name__)

_MODULES = (classroom, dolly, oasst2, hh_rlhf, jsonl, feedback)
SOURCES: dict[str, Source] = {module.SOURCE.name: module.SOURCE for module in _MODULES}
"""Name → loader. `made` (pairs from the demonstrations) and the perturbations of `data.ood` are built on these."""

_BUILT = {"preferences": ("made",), "ood": ("held_out", *PERTURBATIONS)}
"""List of sources → the names it takes beside those of SOURCES."""
_WITHOUT_FILES = (classroom.SOURCE.name, *_BUILT["ood"])
_NOT_MIXED = ("ood", "extra_preferences")


def check_sources(config: Config) -> None:
    """Refuse what some phase could not read, before the first one runs: unknown sources, missing files or hub names.

    Raises:
        UserError: naming the setting's source or file, and the nearest known source; or an option without effect.
    """
    for key in DataSection.source_lists():
        for spec in getattr(config.data, key):
            if spec.source not in _BUILT.get(key, ()):
                _source(spec)
            _refuse_unused(key, spec)


def _refuse_unused(key: str, spec: SourceSpec) -> None:
    """Refuse options that would have no effect, and files that are not there."""
    unused = {"weight"} if key in _NOT_MIXED else set()
    if spec.source in _WITHOUT_FILES:
        unused |= {"path", "name", "split"}
    elif spec.source == feedback.SOURCE.name:
        unused |= {"name", "split"}
        if not spec.name:
            locate(spec)
    elif spec.path or spec.name or spec.source == jsonl.SOURCE.name:
        place = locate(spec)
        unused |= {"split"} if isinstance(place, Path) and place.is_file() else set()
    elif spec.source == "made":  # from data.demonstrations, as those are read
        unused |= {"split"}
    given = [name for name in ("path", "name", "split", "weight") if name in unused and getattr(spec, name) is not None]
    if given:
        raise UserError(
            f"data.{key}: {', '.join(given)} would have no effect on the source {spec.path or spec.source!r}.",
            expected="weight: in lists that are mixed; path:, name: for sources that read files; "
            "split: for hub data sets and folders",
            remedy=f"remove {', '.join(given)}",
        )


def load_demonstrations(config: Config, split: Split) -> list[Demonstration]:
    """Prompts with replies, in hash order. Raises `UserError` on bad input and where nothing is in the split."""
    return _gather(config.data, config.data.demonstrations, lambda s, spec: s.demonstrations(spec), split)


def load_preferences(config: Config, split: Split, sampler: Sampler | None = None) -> list[Preference]:
    """Pairs, in hash order; `made` ones from the split's own demonstrations, some sampled where there is a sampler.

    Raises:
        UserError: as `load_demonstrations`.
    """
    data = config.data

    def read(spec: SourceSpec) -> list[Preference]:
        if spec.source != "made":
            return in_split(data, limited(_source(spec).preferences(spec), spec), split)
        rows = _gather(data, _made_from(data, spec), lambda s, one: s.demonstrations(one), split)
        return made_pairs(rows[: spec.limit], sampler)

    return filled(mixed([read(spec) for spec in data.preferences], data.preferences), "preferences", split)


def load_extra_preferences(config: Config) -> dict[str, list[Preference]]:
    """Name of the set → its pairs on prompts that no training or validation row has: of a trained set, its test split.

    Raises:
        UserError: as `load_demonstrations`, and where two sets have the same name.
    """
    seen = _seen_ids(config)
    sets: dict[str, list[Preference]] = {}
    for spec in config.data.extra_preferences:
        pairs = limited(_source(spec).preferences(spec), spec)
        _put(sets, label(spec), _unseen(pairs, seen, label(spec)))
    return sets


def load_prompts(config: Config, split: Split) -> list[Prompt]:
    """Prompts in hash order, each conversation once. Raises `UserError` as `load_demonstrations`."""
    rows = _gather(config.data, _prompt_specs(config), lambda s, spec: s.prompts(spec), split)
    return _distinct(rows)


def load_ood(config: Config, limit: int) -> dict[str, list[Prompt]]:
    """Suite → at most `limit` prompts that no training or validation row has.

    Perturbed suites are variants of the same first prompts of the test split, so they compare one to one.

    Raises:
        UserError: as `load_demonstrations`, an empty suite, or two suites of the same name.
    """
    perturbed = [spec.source in PERTURBATIONS for spec in config.data.ood]
    tested = load_prompts(config, "test") if any(perturbed) else []
    seen = set() if all(perturbed) else _seen_ids(config)
    suites: dict[str, list[Prompt]] = {}
    for spec in config.data.ood:
        name, rows = label(spec), min(limit, spec.limit or limit)
        if spec.source in PERTURBATIONS:
            prompts = _perturbed(config, spec, tested, rows)
        else:
            prompts = _new_prompts(config, spec, seen)[:rows]
        if not prompts:
            raise UserError(f"The suite {name!r} has no prompts that are not trained on.", **_why_empty(config, spec))
        _put(suites, name, [replace(prompt, suite=name) for prompt in prompts])
    return suites


def load_text(config: Config) -> list[str]:
    """Plain documents of the training split, in hash order. Raises `UserError` as `load_demonstrations`."""
    data = config.data
    specs = data.text or data.demonstrations

    def keep(id: str, category: str) -> bool:
        return split_of(id, data) == "train" and category not in data.held_out_categories

    texts = [sorted(_source(spec).texts(spec, keep), key=text_order)[: spec.limit] for spec in specs]
    return filled(mixed(texts, specs, key=text_order), "text", "train")


def load_judge(config: Config) -> Judge | None:
    """The gold judge of the first source that has one."""
    specs = [*config.data.demonstrations, *config.data.prompts]
    judges = (_source(spec).judge(spec) for spec in specs)
    return next((judge for judge in judges if judge is not None), None)


@dataclass(frozen=True)
class DataRoom:
    """The loaders of one configuration, as the phases ask for them. Every method reads anew and keeps nothing."""

    config: Config

    def demonstrations(self, split: str) -> list[Demonstration]:
        return load_demonstrations(self.config, cast(Split, split))

    def preferences(self, split: str, sampler: Sampler | None = None) -> list[Preference]:
        return load_preferences(self.config, cast(Split, split), sampler)

    def extra_preferences(self) -> dict[str, list[Preference]]:
        return load_extra_preferences(self.config)

    def prompts(self, split: str) -> list[Prompt]:
        return load_prompts(self.config, cast(Split, split))

    def ood(self, limit: int) -> dict[str, list[Prompt]]:
        return load_ood(self.config, limit)

    def text(self) -> list[str]:
        return load_text(self.config)

    def judge(self) -> Judge | None:
        return load_judge(self.config)


def _source(spec: SourceSpec) -> Source:
    if spec.source in SOURCES:
        return SOURCES[spec.source]
    raise UserError(
        f"Unknown source {spec.source!r} (not known, or not in this list).",
        expected=f"one of {', '.join(SOURCES)} (in data.preferences also made; in data.ood also "
        f"{', '.join(_BUILT['ood'])}), or the path of a file",
        remedy=nearest(spec.source, [*SOURCES, *chain(*_BUILT.values())]),
    )


def _gather(
    data: DataSection, specs: Sequence[SourceSpec], read: Callable[[Source, SourceSpec], list[Row]], split: Split
) -> list[Row]:
    """The rows of several sources that are in the split, mixed."""
    parts = [in_split(data, limited(read(_source(spec), spec), spec), split) for spec in specs]
    return filled(mixed(parts, specs), "data", split)


def _made_from(data: DataSection, spec: SourceSpec) -> list[SourceSpec]:
    """The demonstrations of which `made` makes pairs: those of its own file, else those of the configuration."""
    return [spec.model_copy(update={"source": "jsonl"})] if spec.path or spec.name else data.demonstrations


def _prompt_specs(config: Config) -> list[SourceSpec]:
    return config.data.prompts or config.data.demonstrations


def _perturbed(config: Config, spec: SourceSpec, tested: list[Prompt], rows: int) -> list[Prompt]:
    """Variants of the first prompts of the test split."""
    if spec.source == "long_context":
        # About two characters a token: the question and the added sentences then fill half of the room.
        return long_context(tested[:rows], others=tested, budget=2 * config.data.max_prompt_tokens)
    return PERTURBATIONS[spec.source](tested[:rows])


def _new_prompts(config: Config, spec: SourceSpec, seen: set[str]) -> list[Prompt]:
    """The conversations of a suite that is no variant of others, in hash order, each once."""
    if spec.source == "held_out":
        found = [row for one in _prompt_specs(config) for row in _source(one).prompts(one)]
        rows = [row for row in found if row.category in config.data.held_out_categories]
    else:
        rows = _source(spec).prompts(spec)
    return _distinct(_unseen(sorted(rows, key=order), seen, label(spec)))


def _why_empty(config: Config, suite: SourceSpec) -> dict[str, str]:
    """What an error message says of a suite without prompts: expected, found and to do."""
    if suite.source != "held_out":
        return {"remedy": "check its file"}
    there = sorted({row.category for one in _prompt_specs(config) for row in _source(one).prompts(one)} - {""})
    return {
        "expected": f"prompts of the category {' or '.join(config.data.held_out_categories) or '(none is given)'}, "
        "as data.held_out_categories says",
        "found": f"the categories {', '.join(there)}" if there else "rows without a category",
        "remedy": "name categories that are there in data.held_out_categories, or do without: set it to [] and take "
        "held_out out of data.ood",
    }


def _distinct(rows: list[Prompt]) -> list[Prompt]:
    """The first row of each conversation."""
    return list({row.prompt: row for row in reversed(rows)}.values())[::-1]


def _seen_ids(config: Config) -> set[str]:
    """Ids of all rows that training may have used: of any source, plain text too, in train or validation."""
    data = config.data
    seen: set[str] = set()

    def note(id: str, category: str) -> bool:
        if category not in data.held_out_categories and split_of(id, data) != "test":
            seen.add(id)
        return False  # to `texts`: only the ids are wanted

    rows: list[Demonstration | Preference | Prompt] = []
    files = [one for spec in data.preferences if spec.source == "made" for one in _made_from(data, spec)]
    for spec in [*data.demonstrations, *(spec for spec in files if spec not in data.demonstrations)]:
        rows += _source(spec).demonstrations(spec)
    for spec in data.prompts:
        rows += _source(spec).prompts(spec)
    for spec in data.preferences:
        if spec.source != "made":
            rows += _source(spec).preferences(spec)
    for row in rows:
        note(row.id, row.category)
    for spec in data.text:
        _source(spec).texts(spec, note)
    return seen


def _unseen(rows: Sequence[Row], seen: set[str], name: str) -> list[Row]:
    kept = [row for row in rows if row.id not in seen]
    log.info("%s: %d rows, %d dropped because their prompts are trained on", name, len(kept), len(rows) - len(kept))
    return kept


def _put(sets: dict[str, list[Row]], name: str, rows: list[Row]) -> None:
    if name in sets:
        raise UserError(f"Two sets are named {name!r}.", remedy="give one of them another name with suite:")
    sets[name] = rows
