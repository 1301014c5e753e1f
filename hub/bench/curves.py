"""The benchmarks' curves as SVG files. The only place where matplotlib is loaded; a running hub never is here.

Drawn with figures of their own, without pyplot's global state. The same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = (7.0, 3.2)
"""Inches, each."""
WITHIN = 1.10

Curves = Mapping[str, Any]


def draw(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """One file for each benchmark in `results` that has curves: `<name>.svg`. The folder must exist."""
    import matplotlib as mpl

    made: list[Path] = []
    for name, figures in results.items():
        curves = _curves(name, figures) if isinstance(figures, Mapping) else None
        if not curves or name not in _DRAWN:
            continue
        path = folder / f"{name}.svg"
        # Ids that do not change from run to run; text that can be searched.
        with mpl.rc_context({"svg.hashsalt": "billing-hub", "svg.fonttype": "none"}):
            figure = _DRAWN[name](curves)
            figure.savefig(path, format="svg", metadata={"Date": None})
        made.append(path)
    return made


def _curves(name: str, figures: Mapping[str, Any]) -> Curves | None:
    """What is to be drawn. Of `growth` that is everything that was measured at both sizes."""
    if name == "growth":
        return {what: found for what, found in figures.items() if isinstance(found, Mapping) and "large_ms" in found}
    return figures.get("curves")


def _panels(rows: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure as New

    figure = New(figsize=(PANEL[0], PANEL[1] * rows), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False)
    return figure, [row[0] for row in axes]


def _ingest(curves: Curves) -> Figure:
    figure, (axes,) = _panels(1)
    rows = curves["rate_p50_p99"]
    rates = [row[0] for row in rows]
    axes.plot(rates, [row[1] for row in rows], "o-", label="p50")
    axes.plot(rates, [row[2] for row in rows], "o-", label="p99")
    return _named(figure, axes, "Acknowledged: latency over offered rate", "webhooks offered a second", "ms")


def _latency(curves: Curves) -> Figure:
    """Each curve is a distribution: its percentiles from 0 to 100."""
    figure, (axes,) = _panels(1)
    for name, percentiles in curves.items():
        axes.plot(percentiles, range(len(percentiles)), label=name)
    axes.set_xscale("log")
    return _named(figure, axes, "From receipt to confirmation", "ms", "% of deliveries within")


def _isolation(curves: Curves) -> Figure:
    """A dot for each round."""
    figure, (axes,) = _panels(1)
    names = list(dict.fromkeys(name for of in curves.values() for name in of))
    for shift, name in enumerate(names):
        dots = [(at + 0.2 * (shift - 1), r) for at, of in enumerate(curves.values()) for r in of.get(name, ())]
        axes.plot([x for x, _ in dots], [y for _, y in dots], "o", label=name)
    axes.axhline(WITHIN, color="grey", linestyle="--", label=f"{WITHIN:g}")
    axes.set_xticks(range(len(curves)), list(curves))
    return _named(figure, axes, "p99 with NetSuite's fault, over p99 without", "", "ratio")


def _nodes(curves: Curves) -> Figure:
    """A dot for each round, over the number of processes."""
    figure, panels = _panels(len(curves))
    for axes, (what, of) in zip(panels, curves.items(), strict=True):
        dots = [(int(processes), rate) for processes, rates in of.items() for rate in rates]
        axes.plot([x for x, _ in dots], [y for _, y in dots], "o", label="a round")
        axes.set_ylim(bottom=0)
        _named(figure, axes, what, "processes", "a second")
    return figure


def _soak(curves: Curves) -> Figure:
    """A panel for each kind of figure, over seconds."""
    at: Sequence[float] = curves["at_s"]
    kinds: dict[str, dict[str, Sequence[float]]] = {}
    for name, values in curves.items():
        if name not in ("at_s", "ack_slices"):
            kinds.setdefault(name.split()[0], {})[name.partition(" ")[2] or name] = values
    figure, panels = _panels(len(kinds) + 1)
    for axes, (kind, of) in zip(panels, kinds.items(), strict=False):
        for name, values in of.items():
            axes.plot(at, values, label=name)
        axes.set_ylim(bottom=0)
        _named(figure, axes, kind, "s", _UNITS.get(kind, ""))
    slices = curves["ack_slices"]
    for label, column in (("p50", 2), ("p99", 3)):
        panels[-1].plot([s[0] for s in slices], [s[column] for s in slices], label=label)
    return _named(figure, panels[-1], "ack", "s", "ms")


def _growth(curves: Curves) -> Figure:
    """A line for each question, from its time with a short history to that with a long one."""
    figure, (axes,) = _panels(1)
    figure.set_size_inches(PANEL[0] * 1.4, 1.5 + 0.25 * len(curves))
    places = range(len(curves))
    few, many = ([found[size] for found in curves.values()] for size in ("small_ms", "large_ms"))
    axes.hlines(list(places), few, many, color="grey")
    axes.plot(few, places, "o", label="short history")
    axes.plot(many, places, "o", label="long history")
    axes.set_yticks(list(places), list(curves), fontsize="small")
    axes.set_xscale("log")
    return _named(figure, axes, "What a longer history costs", "ms", "")


def _named(figure: Figure, axes: Axes, title: str, below: str, beside: str) -> Figure:
    axes.set_title(title, loc="left")
    axes.set_xlabel(below)
    axes.set_ylabel(beside)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    return figure


_UNITS = {"memory": "MB", "size": "MB", "bytes_per_row": "bytes", "queue": "deliveries"}
_DRAWN: Mapping[str, Callable[[Curves], Figure]] = {
    "ingest": _ingest,
    "latency": _latency,
    "growth": _growth,
    "isolation": _isolation,
    "nodes": _nodes,
    "soak": _soak,
}
