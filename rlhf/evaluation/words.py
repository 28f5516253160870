"""A report in words and tables of text: what the page, report.md and the terminal share.

A table is a list of rows of strings, its first row the header.
"""

from typing import Any

from rlhf.evaluation.records import IN_DISTRIBUTION, SYSTEMS

Values = dict[str, Any]
Table = list[list[str]]

KL = "KL to SFT (nats)"
ABSENT = "–"
"""What a table shows where there is no number; report.json says why under `missing`."""


def number(value: float | None, digits: int = 2, scale: float = 1, unit: str = "") -> str:
    """A number as text, or ABSENT."""
    return ABSENT if value is None else f"{value * scale:.{digits}f}{unit}"


def with_interval(mean: float | None, interval: list[float] | None, digits: int = 2, scale: float = 1) -> str:
    """ "mean [low, high]"."""
    if mean is None or interval is None or None in interval:
        return number(mean, digits, scale)
    low, high = (f"{end * scale:.{digits}f}" for end in interval)
    return f"{mean * scale:.{digits}f} [{low}, {high}]"


def systems_table(report: Values) -> Table:
    """One row a system, the columns that every system has numbers in."""
    columns: list[tuple[str, Any]] = [
        ("reward", lambda s: with_interval(s["reward_mean"], s["reward_ci95"])),
        ("gold", lambda s: with_interval(s["gold_mean"], s["gold_ci95"])),
        ("BLEU", lambda s: number(s["bleu"], 1)),
        ("chrF", lambda s: number(s["chrf"], 1)),
        ("ROUGE-L", lambda s: number(s["rouge_l"], 1)),
        (kl_title(report), lambda s: number(s["kl_to_sft"], 1)),
        ("perplexity", lambda s: number(s["perplexity"], 1)),
        ("length (tokens)", lambda s: number(s["length_mean"], 1)),
        ("ends (%)", lambda s: number(s["eos_rate"], 0, 100)),
        ("distinct-2", lambda s: number(s["distinct_2"], 2)),
        ("repeats (%)", lambda s: number(s["repetition"], 1, 100)),
        ("unsafe (%)", lambda s: number(s["unsafe_rate"], 1, 100)),
        ("n", lambda s: str(s["n"])),
    ]
    rows = [[name, *(cell(system) for _, cell in columns)] for name, system in report["systems"].items()]
    table = [["system", *(title for title, _ in columns)], *rows]
    keep = [i for i in range(len(table[0])) if any(row[i] != ABSENT for row in table[1:])]
    return [[row[i] for i in keep] for row in table]


def kl_title(report: Values) -> str:
    """The KL's column: like the replies it depends on the temperature, and PPO's own KL is at that of training."""
    temperature = (report["config"].get("test") or {}).get("temperature")
    if temperature is None:
        return KL
    return f"{KL}, {f'temperature {temperature:g}' if temperature else 'greedy'}"


def ood_table(report: Values) -> Table:
    """One row a suite, one column a system: gold where there is any, else reward."""
    systems = report["systems"]
    key = "gold" if any(s["gold_mean"] is not None for s in systems.values()) else "reward"
    suites = [IN_DISTRIBUTION, *dict.fromkeys(suite for s in systems.values() for suite in s["ood"])]
    rows = []
    for suite in suites:
        blocks = [s if suite == IN_DISTRIBUTION else s["ood"].get(suite) for s in systems.values()]
        for measure in dict.fromkeys((key, "reward")):
            cells = [with_interval(b[f"{measure}_mean"], b[f"{measure}_ci95"]) if b else ABSENT for b in blocks]
            if any(cell != ABSENT for cell in cells):
                rows.append([suite.replace("_", " "), measure, *cells, str(min(b["n"] for b in blocks if b))])
    return [["suite", "measure", *systems, "n"], *rows]


def wins_table(report: Values) -> Table:
    """One row a comparison and measure; shares in per cent."""
    rows = []
    for pair, rates in report["win_rates"].items():
        for by in ("gold", "reward"):
            r = rates[by]
            if r:
                win = with_interval(r["win"], r["ci95"], 0, 100)
                shares = [win, number(r["tie"], 0, 100), number(r["loss"], 0, 100)]
                rows.append([pair.replace("_vs_", " against "), by, *shares, str(r["n"])])
    return [["comparison", "by", "wins (%)", "ties (%)", "losses (%)", "n"], *rows]


def reward_model_table(report: Values) -> Table:
    """One row a pair set, one a kind of pair; accuracies in per cent."""
    model = report["reward_model"]
    blocks = {name.replace("_", " "): values for name, values in model["sets"].items()}
    blocks |= {f"kind: {name.replace('_', ' ')}": values for name, values in model["kinds"].items()}
    rows = [
        [name, with_interval(b["accuracy"], b["accuracy_ci95"], 1, 100), number(b["longer_wins_accuracy"], 1, 100),
         str(b["n"])]
        for name, b in blocks.items()
    ]  # fmt: skip
    return [["pairs", "reward model right (%)", "longer reply is better (%)", "n"], *rows]


def headline(report: Values) -> list[str]:
    """What came out, in a few sentences."""
    systems, sentences = report["systems"], []
    if "SO" in systems and "SPP" in systems:
        sentences.append(_change(systems["SO"], systems["SPP"]))
        rates = report["win_rates"]["SPP_vs_SO"]
        win = with_interval(rates["win"], rates["ci95"], 0, 100)
        sentences.append(
            f"Prompt by prompt and by {rates['by']}, SPP beats SO in {win}% of {rates['n']} cases, "
            f"ties in {rates['tie']:.0%} and loses in {rates['loss']:.0%}."
        )
    model = report["reward_model"]
    if model["accuracy"] is not None:
        right, longer = (number(model[key], 1, 100) for key in ("accuracy", "longer_wins_accuracy"))
        sentences.append(
            f"The reward model prefers the better reply in {right}% of {model['n']} held-out pairs; "
            f"always preferring the longer one is right in {longer}%."
        )
        sentences += _on_human_pairs(model["kinds"])
    if model["gold_spearman"] is not None:
        pooled, within = number(model["gold_spearman"]), number(model["gold_spearman_within"])
        each = ", ".join(f"{name} {number(rho)}" for name, rho in model["gold_spearman_by_system"].items())
        sentences.append(
            f"Within one system's replies, reward and gold score have a mean rank correlation of {within} ({each}); "
            f"pooled over the replies of all systems, where the systems' own levels count too, it is {pooled}."
        )
    sentences += [f"{name} ({SYSTEMS.get(name, 'unknown')}) is absent: {why}" for name, why in report["absent"].items()]
    return sentences or ["Only one system was evaluated: there is nothing to compare."]


def _on_human_pairs(kinds: Values) -> list[str]:
    """The same of people's own judgements, where they stand among pairs with made flaws, which are easier to see."""
    if "human" not in kinds or len(kinds) == 1:
        return []
    human = kinds["human"]
    right = with_interval(human["accuracy"], human["accuracy_ci95"], 1, 100)
    longer = number(human["longer_wins_accuracy"], 1, 100)
    return [f"Of the {human['n']} pairs that people judged, it is right in {right}%; the longer reply, in {longer}%."]


def _change(before: Values, after: Values) -> str:
    key, label = (
        ("gold", "gold score") if None not in (before["gold_mean"], after["gold_mean"]) else ("reward", "reward")
    )
    a, b = before[f"{key}_mean"], after[f"{key}_mean"]
    if a is None or b is None:
        return "The rewards of SO and SPP are not finite numbers: they cannot be compared."
    first, second = (with_interval(s[f"{key}_mean"], s[f"{key}_ci95"]) for s in (before, after))
    if number(a) == number(b):
        return f"PPO left the mean {label} of the SFT model at {first}."
    sentence = f"PPO {'raised' if b > a else 'lowered'} the mean {label} of the SFT model from {first} to {second}"
    ends = before[f"{key}_ci95"], after[f"{key}_ci95"]
    if not all(ends):
        return sentence + "."
    apart = ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]
    return sentence + ("; the 95% intervals do not overlap." if apart else "; the 95% intervals overlap.")


def flatten(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested names and values as (dotted name, text) pairs."""
    if isinstance(values, dict) and values:
        return [pair for k, v in values.items() for pair in flatten(v, f"{prefix}.{k}" if prefix else str(k))]
    if isinstance(values, list) and any(isinstance(v, dict) for v in values):
        return [pair for i, v in enumerate(values) for pair in flatten(v, f"{prefix}.{i}")]
    if isinstance(values, dict | list):
        return [(prefix, ", ".join(map(str, values)) or "none")]
    return [(prefix, "none" if values is None else str(values))]
