"""A study as files: one HTML page with everything in it, the plots, the tables as CSV, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from difffs.errors import NO_ROOM, UsageError
from difffs.standard_streams import output_problem
from difffs.study.report.page import image_table, render_page
from difffs.study.report.plots import draw
from difffs.study.report.table_files import write_csv
from difffs.study.result import Section, Table

PAGE = "index.html"


def write_report(
    folder: Path, report: dict[str, Any], sections: Sequence[Section], tables: Sequence[Table]
) -> Path:
    """Write the page, `report.json`, `NAME.csv` for each table and `NAME.svg` for each plot.

    `tables` stand before the sections. Returns the page's path.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawings: dict[str, str] = {}
        for section in sections:
            for plot in section.plots:
                drawing = draw(plot, section.table(plot.table))
                drawings[plot.name] = drawing
                (folder / f"{plot.name}.svg").write_text(drawing)
        every = [*tables, *(table for section in sections for table in section.tables)]
        for table in [*every, image_table(report)]:
            write_csv(table, folder / f"{table.name}.csv")
        (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        page = folder / PAGE
        page.write_text(render_page(report, sections, tables, drawings))
    except OSError as error:
        if error.errno in NO_ROOM:
            raise output_problem(str(folder), error) from None
        raise UsageError(
            f"{folder} cannot be written: {error.strerror}; choose another with --report"
        ) from None
    return page
