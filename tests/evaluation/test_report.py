"""The written report: files, self-containment, escaping and odd inputs."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rlhf.evaluation import report as report_module
from rlhf.evaluation.plot_systems import by_category
from rlhf.evaluation.plot_training import training_curves
from rlhf.evaluation.plots import DRAWINGS
from rlhf.evaluation.records import EvaluationInput, SystemReplies
from rlhf.evaluation.report import write_report
from rlhf.evaluation.samples import pick_samples
from rlhf.evaluation.summary import summarise
from rlhf.evaluation.terminal import summary_table
from rlhf.evaluation.words import headline, systems_table


@pytest.fixture(scope="module")
def folder(evaluation: EvaluationInput, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A full report."""
    made = tmp_path_factory.mktemp("report")
    write_report(evaluation, made)
    yield made


def nothing_drawn(*args: Any) -> list[Any]:
    return []


def test_all_files_are_there(folder: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    report = json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert set(report["figures"]) == {drawing.name for drawing in DRAWINGS}
    for path in report["figures"].values():
        with Image.open(folder / path) as image:
            assert image.width > 600 and image.height > 300


def test_the_markdown_shows_every_figure_and_the_result(folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    linked = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(linked) == len(DRAWINGS) and all((folder / path).is_file() for path in linked)
    assert "| SPP |" in text and "## Warnings" in text
    widths = [line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")]
    assert min(widths) >= 3


def test_the_page_loads_nothing_from_elsewhere(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    links = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page)
    assert links and all(link.startswith(("#", "data:image/")) for link in links)
    assert not re.search(r"@import|url\(|<link|fetch\(|https?://", page)
    assert page.count("data:image/") == len(DRAWINGS)
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page


def test_the_page_leads_with_result_and_warnings(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    order = [page.index(part) for part in ("PPO raised the mean gold score", "Looks like reward hacking", "<figure")]
    assert order == sorted(order)
    assert page.count('<article class="box sample"') == 24
    assert {"suite", "category", "order", "search"} <= set(re.findall(r'id="(\w+)"', page))


def test_texts_are_escaped(change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "draw_all", nothing_drawn)
    evil = '<script>alert("x")</script> & \'" onload=x'
    write_report(replace(change("SPP", text=evil), title=evil, command=evil), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1 and "alert(&#34;x&#34;)" in page and 'alert("x")' not in page


def test_absent_systems_are_named(small: EvaluationInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "draw_all", nothing_drawn)
    systems = {name: s for name, s in small.systems.items() if name != "RO"}
    absent = {"RO": "it is not trained; run: python main.py --phase all"}
    report = write_report(replace(small, systems=systems, absent=absent), tmp_path)
    sentence = "RO (PPO from the base, no SFT) is absent: it is not trained; run: python main.py --phase all"
    assert sentence in headline(report) and sentence in summary_table(report)
    for name in ("report.html", "report.md"):
        assert sentence in (tmp_path / name).read_text(encoding="utf-8")


def test_one_system_one_prompt_and_one_step_are_enough(small: EvaluationInput, tmp_path: Path) -> None:
    reply = replace(small.systems["SO"].replies["in_distribution"][0], gold=None, kl_to_sft=None, reward=float("nan"))
    alone = {"SO": SystemReplies("SO", {"in_distribution": [reply]})}
    curves = {"sft": [{"step": 1, "loss": 2.0}], "ppo": [{"step": 1, "objective/kl": 0.0, "objective/scores": 0.1}]}
    report = write_report(replace(small, systems=alone, curves=curves), tmp_path)
    assert report["systems"]["SO"]["reward_mean"] is None
    assert set(report["figures"]) == {"overlap_by_system", "training_curves", "reward_against_kl"}
    assert "few_prompts" in [warning["code"] for warning in report["warnings"]]


def test_without_a_judge_nothing_mentions_gold(small: EvaluationInput, tmp_path: Path) -> None:
    systems = {
        name: replace(s, replies={k: [replace(r, gold=None) for r in rows] for k, rows in s.replies.items()})
        for name, s in small.systems.items()
    }
    report = write_report(replace(small, systems=systems), tmp_path)
    assert "gold" not in summary_table(report)
    assert "PPO raised the mean reward" in headline(report)[0]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<th scope="col">gold</th>' not in page and 'value="gold"' not in page


def test_the_terminal_table_is_aligned(small: EvaluationInput, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(report_module, "draw_all", nothing_drawn)
    lines = summary_table(write_report(small, tmp_path)).splitlines()
    assert lines[0].startswith("system") and set(lines[1]) == {"-"}
    assert len({len(line) for line in lines[:6]}) == 1
    assert any(line.startswith("WARNING: ") for line in lines)


def test_rank_correlations_within_and_over_systems_are_told_apart(small: EvaluationInput) -> None:
    report = summarise(small)
    within = report["reward_model"]["gold_spearman_by_system"]
    (sentence,) = (text for text in headline(report) if "rank correlation" in text)
    assert sentence.startswith("Within one system's replies") and f"SPP {within['SPP']:.2f}" in sentence
    assert f"mean rank correlation of {sum(within.values()) / len(within):.2f}" in sentence
    assert sentence.endswith(f"it is {report['reward_model']['gold_spearman']:.2f}.")


@pytest.mark.parametrize(("temperature", "said"), [(0.7, "temperature 0.7"), (0.0, "greedy")])
def test_the_temperature_stands_with_the_kl(small: EvaluationInput, temperature: float, said: str) -> None:
    report = summarise(replace(small, config={"test": {"temperature": temperature}}))
    assert f"KL to SFT (nats), {said}" in systems_table(report)[0]
    assert f"KL to SFT (nats), {said}" in summary_table(report).splitlines()[0]


def test_settings_of_results_that_are_not_the_reports_are_shown(small: EvaluationInput, tmp_path: Path) -> None:
    write_report(replace(small, results={"sft": {}, "ppo": {"ppo.kl_coef": 0.05}}), tmp_path)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["results"] == {"sft": {}, "ppo": {"ppo.kl_coef": 0.05}}
    for name in ("report.html", "report.md"):
        assert "ppo was made with other settings than this report shows: ppo.kl_coef=0.05" in (
            (tmp_path / name).read_text(encoding="utf-8")
        )


def test_the_kept_update_is_marked_in_the_curves_of_ppo(small: EvaluationInput) -> None:
    rows = [{"step": step, "objective/kl": step / 2, "objective/scores": 0.1} for step in range(1, 9)]
    figure = training_curves({"ppo": [*rows, {"step": 8, "best/update": 5, "best/objective": 0.2}]})
    assert figure is not None
    for axes in figure.axes:
        if axes.get_visible():
            (marked,) = [line for line in axes.lines if line.get_linestyle() == ":"]
            assert list(marked.get_xdata()) == [5, 5]


def test_each_of_several_rewards_has_its_panel(small: EvaluationInput) -> None:
    keys = ("objective/scores", "rewards/model/mean", "rewards/mix/mean", "rewards/mix/length/mean")
    rows = [{"step": step, **dict.fromkeys(keys, 0.1 * step)} for step in range(1, 4)]
    held_out = [{"step": 3, "eval/score": 0.2, "eval/rewards/mix/mean": 0.7}]
    figure = training_curves({"ppo": [*rows, *held_out]})
    assert figure is not None
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert set(panels) == {"PPO: reward", "PPO: model", "PPO: mix", "PPO: mix/length"}
    assert panels["PPO: reward"].get_ylabel() == "weighted sum"
    assert [list(line.get_ydata()) for line in panels["PPO: mix"].lines] == [pytest.approx([0.1, 0.2, 0.3]), [0.7]]


def test_the_learned_reward_alone_needs_no_panel_of_its_own(small: EvaluationInput) -> None:
    figure = training_curves({"ppo": [{"step": 1, "objective/scores": 0.1, "rewards/model/mean": 0.1}]})
    assert figure is not None
    (axes,) = figure.axes
    assert (axes.get_title(), axes.get_ylabel()) == ("PPO: reward", "standard deviations")


def test_categories_are_labelled_with_their_number_of_prompts(small: EvaluationInput) -> None:
    figure = by_category(summarise(small))
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "closed qa (n=2)" in labels and len(labels) == 6


def test_samples_take_suites_in_turn_and_know_the_difference(evaluation: EvaluationInput) -> None:
    samples = pick_samples(replace(evaluation, samples=7))
    assert [s.suite for s in samples] == [*evaluation.suites, *evaluation.suites[:2]]
    so, spp = (evaluation.systems[name].replies["in_distribution"][0] for name in ("SO", "SPP"))
    assert samples[0].difference("reward") == spp.reward - so.reward


def test_human_pairs_have_a_sentence_of_their_own_among_made_ones(small: EvaluationInput) -> None:
    report = summarise(small)
    human = {"accuracy": 0.55, "accuracy_ci95": [0.5, 0.6], "longer_wins_accuracy": 0.58, "n": 400}
    report["reward_model"] |= human | {"kinds": {"human": human, "wrong_fact": human}}
    (sentence,) = (text for text in headline(report) if "people judged" in text)
    assert "400 pairs" in sentence and "55.0 [50.0, 60.0]%" in sentence and "58.0%" in sentence
    for kinds in ({"human": human}, {"wrong_fact": human}):  # the first sentence says it all
        report["reward_model"]["kinds"] = kinds
        assert not any("people judged" in text for text in headline(report))
