"""What the figures of trainings draw."""

import numpy as np

from lab.run_figures import curves, evaluations, sensitivity
from lab.runs import Run

RUNS = {
    "first": [
        Run(seed, [value, value + 2], [10, 20], [None, value], 1.0) for seed, value in enumerate((1.0, 2.0, 6.0))
    ],
    "second": [Run(0, [5.0], [10, 20], [3.0, 4.0], 1.0)],
}


def drawn(figure, name: str) -> list[list[float]]:
    return [np.asarray(trace.y).tolist() for trace in figure.data if trace.name == name and trace.y[0] is not None]


def test_curves_are_the_median_in_a_band_from_the_worst_to_the_best_from_where_all_are_known():
    figure = curves(RUNS, {}, "A title")
    assert drawn(figure, "median of the seeds") == [[2.0], [3.0, 4.0]]
    assert drawn(figure, "worst to best seed") == [[6.0, 1.0], [3.0, 4.0, 4.0, 3.0]]
    assert figure.layout.title.text == "A title"


def test_evaluations_are_means_with_the_deviation_of_the_episodes():
    figure = evaluations(RUNS, {}, "")
    assert drawn(figure, "mean ± deviation of episodes") == [[2.0, 3.0, 7.0], [5.0]]
    assert np.asarray(figure.data[0].error_y.array).tolist() == [1.0, 1.0, 1.0]


def test_what_was_asked_for_is_a_line_in_its_panel_and_in_the_legend_only_where_there_is_one():
    asked = evaluations(RUNS, {"second": 4.5, "third": 1.0}, "")
    assert [line.y0 for line in asked.layout.shapes] == [4.5]
    assert "asked for" in {trace.name for trace in asked.data}
    nothing = evaluations(RUNS, {"third": 1.0}, "")
    assert not nothing.layout.shapes and "asked for" not in {trace.name for trace in nothing.data}


def test_a_study_has_every_seed_and_their_median_and_leaves_out_what_is_not_known():
    unknown = Run(3, [9.0], [10], [None], 1.0)
    figure = sensitivity({"clip": {0.2: [*RUNS["first"], unknown]}}, "World-v0")
    values = [np.asarray(trace.y, float).tolist() for trace in figure.data]
    assert values[:2] == [[2, 3, 7, 9], [5]] and values[2][:3] == [1, 2, 6] and values[3] == [2]
