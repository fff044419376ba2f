"""Plots as SVG text, drawn from tables. The same table gives the same bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")  # never a window

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from difffs.study.result import Cell, Column, Plot, PlotKind, Table, Unit, show

_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#8C8C8C",
    "#B2A300",
    "#5B4A9E",
    "#000000",
)
"""Okabe and Ito's, which people with any colour vision tell apart, and a few more."""

_STYLE: Any = {  # its stubs want a literal of each key
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "difffs",
}
_BAR_INCHES = 0.21
_PANEL_INCHES = 3.0

Row = dict[str, Cell]


def draw(plot: Plot, table: Table) -> str:
    """Return the plot as one <svg> element."""
    rows = [
        dict(row)
        for row in table.rows
        if all(row.get(key) == wanted for key, wanted in plot.where.items())
    ]
    with matplotlib.rc_context(_STYLE):
        figure = _DRAWN[plot.kind](plot, table, rows)
        figure.suptitle(plot.title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        out = io.StringIO()
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]


def _different(rows: Sequence[Row], key: str | None) -> list[Cell]:
    return list(dict.fromkeys(row.get(key) for row in rows)) if key else [None]


def _panels(plot: Plot, rows: list[Row]) -> list[tuple[Cell, list[Row]]]:
    return [
        (value, [row for row in rows if plot.panel is None or row.get(plot.panel) == value])
        for value in _different(rows, plot.panel)
    ]


def _axis_label(column: Column) -> str:
    units = {
        Unit.MICROSECONDS: "us",
        Unit.SECONDS: "s",
        Unit.BYTES: "bytes",
        Unit.MEAN_BYTES: "bytes",
        Unit.MEBIBYTES: "MiB",
        Unit.MEBIBYTES_PER_SECOND: "MiB/s",
        Unit.SHARE: "%",
    }
    unit = units.get(column.unit)
    return f"{column.title} ({unit})" if unit and unit not in column.title else column.title


def _scaled(value: Cell, unit: Unit) -> float:
    if not isinstance(value, int | float):
        return math.nan
    if unit is Unit.SHARE:
        return value * 100
    if unit in (Unit.MEBIBYTES, Unit.MEBIBYTES_PER_SECOND):
        return value / (1 << 20)
    return float(value)


def _bars(plot: Plot, table: Table, rows: list[Row]) -> Figure:
    """Horizontal: the names of variants are long."""
    panels = _panels(plot, rows)
    groups, series = _different(rows, plot.x), _different(rows, plot.series)
    column = table.column(plot.y)
    height = max(1.6, _BAR_INCHES * len(groups) * (len(series) * 0.8 + 0.4) + 0.9)
    figure, axes = pyplot.subplots(
        1,
        len(panels),
        figsize=(2.2 + _PANEL_INCHES * len(panels) * (1 if len(panels) > 1 else 1.6), height),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    thickness = 0.8 / len(series)
    for axis, (name, inside) in zip(axes[0], panels, strict=True):
        for number, one in enumerate(series):
            chosen = {
                row.get(plot.x): row for row in inside if not plot.series or row[plot.series] == one
            }
            values = [
                _scaled(chosen[group].get(plot.y) if group in chosen else None, column.unit)
                for group in groups
            ]
            places = [i + (number - (len(series) - 1) / 2) * thickness for i in range(len(groups))]
            bars = axis.barh(
                places, values, thickness * 0.92, color=_COLOURS[number % len(_COLOURS)], label=one
            )
            texts = [
                show(chosen[group].get(plot.y), column.unit) if group in chosen else ""
                for group in groups
            ]
            axis.bar_label(bars, texts, padding=2, fontsize=7, color="#333333")
        _finish_bars(axis, plot, column, groups, name)
    if plot.series:
        figure.legend(
            *axes[0][0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(6, len(series)),
        )
    return figure


def _finish_bars(
    axis: Axes, plot: Plot, column: Column, groups: Sequence[Cell], name: Cell
) -> None:
    axis.set_yticks(range(len(groups)), [str(group) for group in groups])
    if not axis.yaxis_inverted():
        axis.invert_yaxis()
    axis.set_xlabel(_axis_label(column))
    axis.grid(axis="x")
    axis.axvline(0, color="#888888", linewidth=0.8)
    axis.margins(x=0.14)
    if plot.logarithmic:
        axis.set_xscale("log")
    if plot.panel:
        axis.set_title(str(name))


def _stack(plot: Plot, table: Table, rows: list[Row]) -> Figure:
    groups, series = _different(rows, plot.x), _different(rows, plot.series)
    column = table.column(plot.y)
    figure, axis = pyplot.subplots(
        figsize=(8.5, max(1.8, 0.42 * len(groups) + 1.3)), layout="constrained"
    )
    for positive in (True, False):
        ends = [0.0] * len(groups)
        for number, one in enumerate(series):
            values = []
            for group in groups:
                found = [
                    r for r in rows if r.get(plot.x) == group and r.get(plot.series or "") == one
                ]
                value = _scaled(found[0].get(plot.y), column.unit) if found else 0.0
                values.append(value if (value > 0) == positive and value == value else 0.0)
            label = str(one) if any(values) else None
            axis.barh(
                range(len(groups)),
                values,
                0.7,
                left=ends,
                color=_COLOURS[number % len(_COLOURS)],
                label=label,
            )
            ends = [end + value for end, value in zip(ends, values, strict=True)]
    axis.set_yticks(range(len(groups)), [str(group) for group in groups])
    axis.invert_yaxis()
    axis.set_xlabel(_axis_label(column))
    axis.axvline(0, color="#888888", linewidth=0.8)
    axis.grid(axis="x")
    figure.legend(loc="outside lower center", ncols=min(7, len(series)))
    return figure


def _lines(plot: Plot, table: Table, rows: list[Row]) -> Figure:
    panels = _panels(plot, rows)
    series = _different(rows, plot.series)
    figure, axes = pyplot.subplots(
        1,
        len(panels),
        figsize=(1.5 + 3.4 * max(len(panels), 2), 3.2),
        squeeze=False,
        layout="constrained",
    )
    across, up = table.column(plot.x), table.column(plot.y)
    for axis, (name, inside) in zip(axes[0], panels, strict=True):
        for number, one in enumerate(series):
            chosen = [row for row in inside if not plot.series or row.get(plot.series) == one]
            points = sorted(
                (_scaled(row.get(plot.x), across.unit), _scaled(row.get(plot.y), up.unit))
                for row in chosen
                if row.get(plot.x) is not None and row.get(plot.y) is not None
            )
            if points:
                axis.plot(
                    *zip(*points, strict=True),
                    color=_COLOURS[number % len(_COLOURS)],
                    marker="o" if len(points) < 15 else None,
                    markersize=3,
                    linewidth=1.4,
                    label=str(one),
                )
        axis.set_xlabel(_axis_label(across))
        axis.grid()
        if plot.logarithmic:
            axis.set_yscale("log")
        if plot.panel:
            axis.set_title(str(name))
    axes[0][0].set_ylabel(_axis_label(up))
    if plot.series:
        handles: dict[str, Any] = {}
        for axis in axes[0]:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=min(6, len(handles))
        )
    return figure


def _points(plot: Plot, table: Table, rows: list[Row]) -> Figure:
    panels = _panels(plot, rows)
    figure, axes = pyplot.subplots(
        1,
        len(panels),
        figsize=(1.2 + 3.9 * max(len(panels), 1.5), 3.8),
        squeeze=False,
        layout="constrained",
    )
    across, up = table.column(plot.x), table.column(plot.y)
    named: list[tuple[Axes, str, float, float]] = []
    for axis, (name, inside) in zip(axes[0], panels, strict=True):
        for number, row in enumerate(inside):
            x, y = _scaled(row.get(plot.x), across.unit), _scaled(row.get(plot.y), up.unit)
            if x != x or y != y:
                continue
            axis.scatter([x], [y], color=_COLOURS[number % len(_COLOURS)], s=22)
            named.append((axis, str(row.get(plot.series or plot.x)), x, y))
        if plot.logarithmic:
            axis.set_xscale("log")
        axis.margins(x=0.2, y=0.12)
        axis.set_xlabel(_axis_label(across))
        axis.grid()
        if plot.panel:
            axis.set_title(str(name))
    axes[0][0].set_ylabel(_axis_label(up))
    _name_points(figure, named)
    return figure


_NAME_PLACES = (
    *((4, 3, "left", "bottom"), (4, -3, "left", "top")),
    *((-4, 3, "right", "bottom"), (-4, -3, "right", "top")),
)
"""Where a point's name may stand: points to the right and up, and which of its corners there."""


def _name_points(figure: Figure, named: Sequence[tuple[Axes, str, float, float]]) -> None:
    """Put the names beside their points, where possible so that none covers another."""
    figure.draw_without_rendering()  # places of axes are known only now
    taken: list[Bbox] = []
    for axis, name, x, y in named:
        made = []
        for right, up, across, upwards in _NAME_PLACES:
            text = axis.annotate(
                name,
                (x, y),
                xytext=(right, up),
                textcoords="offset points",
                fontsize=7,
                horizontalalignment=across,
                verticalalignment=upwards,
            )
            made.append((text, text.get_window_extent()))
        chosen, box = min(made, key=lambda each: each[1].count_overlaps(taken))
        for text, _box in made:
            if text is not chosen:
                text.remove()
        taken.append(box)


def _heat(plot: Plot, table: Table, rows: list[Row]) -> Figure:
    panels = _panels(plot, rows)
    across, down = _different(rows, plot.x), _different(rows, plot.series)
    unit = table.column(plot.y).unit
    figure, axes = pyplot.subplots(
        len(panels),
        1,
        figsize=(1.8 + 0.86 * len(across), (0.8 + 0.3 * len(down)) * len(panels) + 0.9),
        squeeze=False,
        layout="constrained",
    )
    for (axis,), (name, inside) in zip(axes, panels, strict=True):
        cells = {(row.get(plot.series or ""), row.get(plot.x)): row.get(plot.y) for row in inside}
        values = [[_scaled(cells.get((y, x)), unit) for x in across] for y in down]
        known = [v for line in values for v in line if v == v]
        logarithmic = plot.logarithmic and known and min(known) > 0
        colours = [[math.log(v) if logarithmic and v == v else v for v in line] for line in values]
        axis.imshow(colours, cmap="viridis", aspect="auto")
        flat = [v for line in colours for v in line if v == v]
        middle = (min(flat) + max(flat)) / 2 if flat else 0.0
        for i, y in enumerate(down):
            for j, x in enumerate(across):
                value = cells.get((y, x))
                if value is not None:
                    axis.text(
                        j,
                        i,
                        show(value, unit),
                        ha="center",
                        va="center",
                        fontsize=7,
                        color="white" if colours[i][j] < middle else "black",
                    )
        axis.set_xticks(range(len(across)), [str(x) for x in across])
        axis.set_yticks(range(len(down)), [str(y) for y in down])
        axis.tick_params(length=0, labelsize=8)
        for spine in axis.spines.values():
            spine.set_visible(False)
        if plot.panel:
            axis.set_title(str(name), loc="left")
    return figure


_DRAWN: dict[PlotKind, Callable[[Plot, Table, list[Row]], Figure]] = {
    PlotKind.BARS: _bars,
    PlotKind.STACK: _stack,
    PlotKind.LINES: _lines,
    PlotKind.POINTS: _points,
    PlotKind.HEAT: _heat,
}
