"""The study as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from difffs.study.corpus import RAW
from difffs.study.result import Column, Section, Table, Unit, show

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5c6370; --line: #d9dce1; --back: #fff;
  --card: #f6f7f9; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa3af; --line: #383d45;
  --back: #16181c; --card: #1f2227; --accent: #56b4e9; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.5rem 6rem; background: var(--back);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem }
h2 { margin: 3.5rem 0 1rem; padding-top: 1rem; border-top: 1px solid var(--line) }
h3 { margin: 2rem 0 .5rem; font-size: 1.05rem }
a { color: var(--accent) }
.lead { border-left: 4px solid var(--accent); padding: .2rem 0 .2rem 1rem; margin: 1rem 0;
  max-width: 62rem }
.soft, figcaption, .note { color: var(--soft); font-size: .87rem }
nav li, .findings li { margin: 0 0 .7rem }
nav li p { margin: .1rem 0 0 }
nav li a { font-weight: 600 }
nav ol, .findings { max-width: 62rem; padding-left: 1.4rem }
figure { margin: 1.5rem 0; padding: 1rem; background: #fff; border: 1px solid var(--line);
  border-radius: 8px; overflow-x: auto }
figure svg { max-width: 100%; height: auto; display: block; margin: auto }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums }
th, td { padding: .28rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap }
th { vertical-align: bottom; white-space: normal; font-weight: 600; background: var(--card) }
th.text, td.text { text-align: left }
tr.first td { border-top: 2px solid var(--line) }
code { font-size: .9em; background: var(--card); padding: .1em .35em; border-radius: 4px }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; font-size: .9rem }
dt { color: var(--soft) } dd { margin: 0 }
@media print { body { max-width: none; padding: 0 } figure { break-inside: avoid } }
"""


def render_page(
    report: Mapping[str, Any],
    sections: Sequence[Section],
    tables: Sequence[Table],
    drawings: Mapping[str, str],
) -> str:
    """Return the page; `drawings` are the sections' plots as SVG text by name."""
    corpora = list(dict.fromkeys(image["corpus"] for image in report["images"]))
    mebibytes = sum(image["pages"] for image in report["images"]) * 4096 >> 20
    parts = [
        f"<h1>{escape(_heading(sections))}</h1>",
        f'<p class="soft">difffs study of {_counted(len(report["images"]), "memory image")}'
        f" ({mebibytes:,} MiB) in {_counted(len(corpora), 'corpus', 'corpora')}:"
        f" {escape(', '.join(corpora))}</p>",
        _brief(sections, bool(tables)),
        *(_table(table) for table in tables),
        *(_section(section, drawings) for section in sections),
        _origin(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>difffs study</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _heading(sections: Sequence[Section]) -> str:
    """The title of the one question that is answered, or what all of them are about."""
    return sections[0].title if len(sections) == 1 else "What is each mechanism worth?"


def _counted(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def _brief(sections: Sequence[Section], compared: bool) -> str:
    """Each question with its conclusion, and where to read on."""
    items = "\n".join(
        f'<li value="{s.number}"><a href="#{escape(s.name)}">{escape(s.title)}</a>'
        f"<p>{escape(s.conclusion)}</p></li>"
        for s in sections
    )
    brief = f'<h2 id="brief">In brief</h2>\n<ol>{items}</ol>\n' if sections else ""
    first = '<a href="#table-recipes">Named recipes compared</a> · ' if compared else ""
    return f'<nav>{brief}<p>{first}<a href="#origin">Images, machine, command</a></p></nav>'


def _section(section: Section, drawings: Mapping[str, str]) -> str:
    parts = [
        f'<h2 id="{escape(section.name)}">{section.number}. {escape(section.title)}</h2>',
        f'<p class="lead">{escape(section.conclusion)}</p>',
    ]
    if section.findings:
        items = "".join(f"<li>{escape(finding)}</li>" for finding in section.findings)
        parts.append(f'<ul class="findings">{items}</ul>')
    for plot in section.plots:
        parts.append(f"<figure>{drawings[plot.name]}</figure>")
    parts += [_table(table) for table in section.tables]
    if section.absent:
        lines = "".join(f"<li>{escape(line)}</li>" for line in section.absent)
        parts.append(f"<h3>Not measured on this host</h3><ul>{lines}</ul>")
    return "\n".join(parts)


def _kind(column: Column) -> str:
    return ' class="text"' if column.unit is Unit.TEXT else ""


def _table(table: Table) -> str:
    heads = "".join(f"<th{_kind(c)}>{escape(c.title)}</th>" for c in table.columns)
    lines = []
    before: object = None
    for row in table.rows:
        first = row.get(table.columns[0].key)
        mark = ' class="first"' if before is not None and first != before else ""
        before = first
        cells = "".join(
            f"<td{_kind(c)}>{escape(show(row.get(c.key), c.unit))}</td>" for c in table.columns
        )
        lines.append(f"<tr{mark}>{cells}</tr>")
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    rows = (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>\n"
    )
    if table.detail:
        rows = f"<details><summary>{len(table.rows):,} rows</summary>\n{rows}</details>\n"
    return (
        f'<h3 id="table-{escape(table.name)}">{escape(table.title)}</h3>\n{rows}'
        f'{note}<p class="note"><a href="{escape(table.name)}.csv">CSV</a></p>'
    )


def _origin(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    facts = {
        "command": f"<code>{escape(report['command'])}</code>",
        "made": escape(report["made"]),
        "processor": escape(f"{machine['processor']}, {machine['cores']} cores"),
        "memory": f"{machine['memory'] >> 20:,} MiB",
        "kernel": escape(f"Linux {machine['kernel']}"),
        "versions": escape(f"difffs {machine['difffs']}, Python {machine['python']}"),
        "sample": f"{report['sample']:,} pages or pairs a corpus, seed {report['seed']}",
    }
    if workers := report.get("workers"):
        facts["passes made by"] = "<br>".join(
            escape(f"{_workers(one['workers'])} on {one['processor']}, {one['cores']} cores")
            for one in workers
        )
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    return f'<h2 id="origin">Images, machine, command</h2>\n<dl>{listed}</dl>\n' + _table(
        image_table(report)
    )


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count:,} workers"


def _form(image: Mapping[str, Any]) -> str:
    """The format that an image was given in, in words; reports did not always tell it."""
    form, compression = image.get("format", RAW), image.get("compression")
    return f"{form}, {compression}" if compression else str(form)


def image_table(report: Mapping[str, Any]) -> Table:
    """What is known about the images of a report, as a table."""
    known = {entry["sha256"]: entry for entry in report["manifest"]}
    rows = []
    for image in report["images"]:
        entry = known.get(image["sha256"], {})
        rows.append(
            {
                "corpus": image["corpus"],
                "image": image["name"],
                "format": _form(image),
                "bytes": image["pages"] * 4096,
                "release": str(entry["release"]) if "release" in entry else None,
                "kernel": entry.get("kernel"),
                "workload": entry.get("workload"),
                "seconds": entry.get("seconds"),
                "zero": entry.get("zero_page_share"),
                "sha256": image["sha256"][:16],
            }
        )
    return Table(
        "images",
        "Images",
        [
            Column("corpus", "corpus"),
            Column("image", "image"),
            *([Column("format", "format")] if any(row["format"] != RAW for row in rows) else []),
            Column("bytes", "MiB", Unit.MEBIBYTES),
            Column("release", "Debian"),
            Column("kernel", "kernel"),
            Column("workload", "workload"),
            Column("seconds", "ran for s", Unit.SECONDS),
            Column("zero", "zero pages", Unit.SHARE),
            Column("sha256", "sha256, beginning"),
        ],
        rows,
        " ".join(
            [
                "Releases, kernels, workloads and times as scripts/collect-images has written them"
                " down.",
                *(
                    f"{image['file']}: {note}."
                    for image in report["images"]
                    for note in image.get("notes", ())
                ),
            ]
        ),
    )
