"""How the lab's figures look, and how they are saved: HTML to explore, PNG to look at.

figure = lines({"greedy": (steps, means), "ε = 0.1": (steps, others)}, "Steps", "Mean reward", "Figure 2.2")
save(figure, Path("docs/results/lab/bandits-rewards"))       # .html and .png

The PNG is drawn by the browser that is there, chromium for one; without any, there is the HTML alone. The script that
HTML needs lies once beside the files, so that they open without a network.
"""

import atexit
import functools
import logging
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import kaleido
import plotly.graph_objects as go
import plotly.io
from plotly.subplots import make_subplots

log = logging.getLogger(__name__)

PALETTE = ("#0072b2", "#d98200", "#009e73", "#cc79a7", "#7a7a7a", "#56b4e9", "#e0b400", "#8c4b1f")
"""Safe for colour-blind readers (Okabe and Ito 2008)."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZE = (860, 460)
"""Of a figure, in pixels."""
Points = tuple[Sequence[float], Sequence[float]]
"""Along the x axis and the y axis."""

_GRID = dict(gridcolor="#e3e3e3", zeroline=False, linecolor="#888888", ticks="outside", tickcolor="#888888")
plotly.io.templates["lab"] = go.layout.Template(
    layout=dict(
        colorway=PALETTE, font=dict(family="DejaVu Sans, sans-serif", size=13, color="#333333"),
        title=dict(x=0.01, xanchor="left", font=dict(size=16, weight="bold")), paper_bgcolor="white",
        plot_bgcolor="white", xaxis=_GRID, yaxis=_GRID, hovermode="x unified",
        legend=dict(bgcolor="rgba(255,255,255,0.7)"), margin=dict(l=70, r=30, t=60, b=60),
    )
)  # fmt: skip


def lines(series: Mapping[str, Points], x: str, y: str, title: str) -> go.Figure:
    """One line for each name.

    Args:
        series: name → its points.
        x, y: what the axes show.
        title: of the whole.
    """
    figure = go.Figure(
        [go.Scatter(x=list(xs), y=list(ys), name=name, mode="lines") for name, (xs, ys) in series.items()]
    )
    return figure.update_layout(template="lab", title=title, xaxis_title=x, yaxis_title=y)


def bands(
    series: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    title: str,
) -> go.Figure:
    """Lines with what lies between a lower and an upper one shaded.

    Args:
        series: name → x, middle, low, high.
        x, y: what the axes show.
        title: of the whole.
    """
    figure = go.Figure()
    for number, (name, (xs, middle, low, high)) in enumerate(series.items()):
        color = PALETTE[number % len(PALETTE)]
        around = dict(
            x=[*xs, *reversed(xs)], y=[*high, *reversed(low)], legendgroup=name, showlegend=False, mode="lines"
        )
        figure.add_scatter(**around, fill="toself", fillcolor=color, opacity=0.18, line_width=0, hoverinfo="skip")
        figure.add_scatter(x=list(xs), y=list(middle), name=name, legendgroup=name, line_color=color, mode="lines")
    return figure.update_layout(template="lab", title=title, xaxis_title=x, yaxis_title=y)


def grid(rows: int, columns: int, titles: Sequence[str], **how: object) -> go.Figure:
    """An empty figure of several panels; `how` goes to plotly's make_subplots."""
    return make_subplots(rows, columns, subplot_titles=list(titles), **how).update_layout(template="lab")


def save(figure: go.Figure, path: Path, size: tuple[int, int] = SIZE) -> None:
    """Write path.html and, where there is a browser to draw it, path.png.

    Args:
        figure: what to save.
        path: without an ending.
        size: in pixels.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path.with_suffix(".html"), include_plotlyjs="directory")
    if not _browser():
        log.warning("%s.png was not drawn: no browser here (apt-get install chromium)", path)
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The kopts argument is ignored", UserWarning)  # plotly's own, of no use here
        figure.write_image(path.with_suffix(".png"), width=size[0], height=size[1], scale=2)


def _browser() -> bool:
    """Whether there is a browser; it is started with the first figure of this process, and draws all of them."""
    browser = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return False
    _start(browser)
    return True


@functools.cache
def _start(browser: str) -> None:
    """Takes a second."""
    os.environ["BROWSER_PATH"] = browser  # where kaleido looks
    kaleido.start_sync_server(silence_warnings=True)
    atexit.register(kaleido.stop_sync_server, silence_warnings=True)
