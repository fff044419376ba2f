"""Plots: well-formed, alone in the world, the same each time, and of the table's figures."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from difffs.study.report.plots import draw
from difffs.study.result import Plot, PlotKind
from tests.study.report.samples import AWKWARD, TABLE, plots

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"

every_plot = pytest.mark.parametrize("plot", plots(), ids=lambda plot: plot.name)


def texts(drawing: str) -> list[str]:
    """What is written in a drawing."""
    root = ElementTree.fromstring(drawing)
    return ["".join(element.itertext()).strip() for element in root.iter(f"{SVG}text")]


@every_plot
def test_a_plot_is_one_svg_element_without_references(plot: Plot) -> None:
    root = ElementTree.fromstring(draw(plot, TABLE))
    assert root.tag == f"{SVG}svg"
    names = {element.get("id") for element in root.iter()}
    for element in root.iter():
        assert element.tag not in (f"{SVG}script", f"{SVG}a")
        target = element.get(XLINK) or element.get("href")
        if target and not target.startswith("data:image/png;base64,"):
            assert target.startswith("#")
            assert target[1:] in names
        assert "@import" not in (element.text or "")


@every_plot
def test_the_same_table_gives_the_same_bytes(plot: Plot) -> None:
    assert draw(plot, TABLE) == draw(plot, TABLE)


def test_all_kinds_are_drawn() -> None:
    assert {plot.kind for plot in plots()} == set(PlotKind)


@every_plot
def test_title_and_names_are_written(plot: Plot) -> None:
    written = texts(draw(plot, TABLE))
    assert plot.title in written
    names = {str(row["codec"]) for row in TABLE.rows}
    if plot.y == "factor":
        names.remove("raw")  # of which nothing was measured
    for name in names:
        assert name in written, name
    if plot.panel:
        assert {"one", AWKWARD} <= set(written)


def test_bars_are_labelled_as_the_table_shows_them() -> None:
    (bars,) = (plot for plot in plots() if plot.name == "bars")
    written = texts(draw(bars, TABLE))
    for codec in ("zstd 1", "lz4", "raw"):
        assert TABLE.text("stored", corpus="one", codec=codec) in written
    assert "stored (MiB)" in written


def test_shares_are_in_per_cent_along_the_axis() -> None:
    (stack,) = (plot for plot in plots() if plot.name == "stack")
    assert "share (%)" in texts(draw(stack, TABLE))


def test_only_rows_that_are_asked_for_are_drawn() -> None:
    (line,) = (plot for plot in plots() if plot.name == "line")
    one = replace(line, where={"corpus": "one", "codec": "lz4"})
    written = texts(draw(one, TABLE))
    assert "lz4" in written
    assert "zstd 1" not in written
    rest = [row for row in TABLE.rows if row["corpus"] == "one" and row["codec"] == "lz4"]
    assert draw(one, TABLE) == draw(one, replace(TABLE, rows=rest))


def test_other_figures_give_another_drawing() -> None:
    larger = [{**row, "stored": 3 * int(row["stored"] or 0)} for row in TABLE.rows]
    (bars,) = (plot for plot in plots() if plot.name == "bars")
    assert draw(bars, TABLE) != draw(bars, replace(TABLE, rows=larger))
