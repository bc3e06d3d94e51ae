# SPDX-License-Identifier: GPL-2.0-only
"""Throughput against the size of the caller's mount table and the number of sleeping tasks, one
line per method, on log axes.

Takes matplotlib: the optional extra ``plot``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.methods import NOTHING
from bench.plan import READING, Point
from bench.report import label, series
from bench.results import Results
from bench.stats import summary
from bench.work import Way

#: Mode and axis of each panel: its title, and what the axis is.
_PANELS: dict[tuple[Way, str], tuple[str, str]] = {
    ("calls", "table"): ("system calls alone", "mounts in the caller's table"),
    ("process", "table"): ("with a process, its exit and wait", "mounts in the caller's table"),
    ("calls", "tasks"): ("system calls alone", "sleeping tasks"),
    ("reader", "table"): ("reading the table: tables", "mounts in it"),
}
#: What is plotted, as Plan.series() has it.
PLOTTED = tuple(_PANELS)


class NoPlot(Exception):
    """There is nothing to plot, or nothing to plot with."""


def require(file: Path) -> None:
    """See that *file* can be plotted here: there is matplotlib, and it knows the suffix.

    :raises NoPlot: it cannot.
    """
    try:
        import matplotlib  # noqa: F401 - else a part of it that is there would do
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise NoPlot(
            "plots take matplotlib\nhint: pip install matplotlib (the extra `plot`)"
        ) from None
    known = FigureCanvasBase.get_supported_filetypes()
    if file.suffix.lower().removeprefix(".") not in known:
        raise NoPlot(f"{file}: no format by that suffix\nhint: .svg or .png")


def plot(results: Results, file: Path) -> None:
    """Write the plot to *file*; its suffix says in which format (svg, png, pdf).

    :raises NoPlot: matplotlib is missing, or the results have one size of everything only.
    """
    require(file)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = {panel: points for panel in _PANELS if (points := series(results, *panel))}
    if not panels:
        raise NoPlot("nothing to plot: there is only one size of table, one number of tasks")
    figure = Figure(figsize=(4.5 * len(panels) + 1, 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, ((mode, axis), points) in zip(axes, panels.items(), strict=True):
        _draw(panel, results, mode, axis, points)
    axes[0].set_ylabel("containers, or tables, per second")
    axes[0].legend(fontsize="small")
    figure.suptitle(f"Linux {results.machine['release']}", fontsize="medium")
    vector = file.suffix.lower() == ".svg"
    # The same results give the same file; letters stay letters.
    with rc_context({"svg.hashsalt": "bench", "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None} if vector else None)


def _draw(panel: Any, results: Results, mode: Way, axis: str, points: Sequence[Point]) -> None:
    """One mode along an axis: a line for each method, its quartiles around it."""
    sizes = [getattr(point, axis) for point in points]
    # What a process costs without a container. Without a process there is nothing to show.
    base = [NOTHING.letter] if mode == "process" else []
    for letter in (*results.letters(points[0]), *base):
        found = [summary(results.rates[point][letter]) for point in points]
        style = {"color": "grey", "linestyle": ":"} if letter in base else {"marker": "o"}
        (line,) = panel.loglog(sizes, [one.median for one in found], label=label(letter), **style)
        low, high = [one.low for one in found], [one.high for one in found]
        panel.fill_between(sizes, low, high, color=line.get_color(), alpha=0.2)
    if base:
        panel.legend(handles=[line], fontsize="small")
    if mode in READING:
        panel.legend(fontsize="small")
    if 0 in sizes:  # which has no logarithm
        panel.set_xscale("symlog", linthresh=min(filter(None, sizes)))
    title, label_of_axis = _PANELS[mode, axis]
    panel.set_title(title, fontsize="medium")
    panel.set_xlabel(label_of_axis)
    panel.grid(which="major", alpha=0.3)
