"""stats --output: columns, sizes, headings; one store and several."""

import json
from pathlib import Path

import pytest

from difffs.cli.columns import COLUMNS, DEFAULT_COLUMNS
from difffs.cli.main import main
from difffs.page import PAGE_SIZE


@pytest.fixture
def stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Two stores, of 300 and 3 pages."""
    paths = []
    for name, count in (("large", 300), ("small", 3)):
        image = tmp_path / f"{name}.mem"
        image.write_bytes(b"".join(bytes([at & 7]) * PAGE_SIZE for at in range(count)))
        paths.append(str(tmp_path / name))
        assert main(["import", paths[-1], str(image)]) == 0
    capsys.readouterr()
    return paths


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> list[list[str]]:
    assert main(["stats", *words]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_chosen_columns(stores: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, *stores, "--output", "pages,Store,ZERO,logical") == [
        ["PAGES", "STORE", "ZERO", "LOGICAL"],
        ["300", stores[0], "38", "1.17M"],
        ["3", stores[1], "1", "12.0K"],
    ]
    found = lines(capsys, "-nb", stores[0], "-o", "logical")
    assert found == [[str(300 * PAGE_SIZE)]]


def test_every_column_of_a_store(stores: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", stores[0], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    headings, cells = lines(capsys, stores[0], "--output-all", "--bytes")
    assert headings == [column.name for column in COLUMNS]
    shown = dict(zip(headings, cells, strict=True))
    for part in ("logical", "stored", "payload", "slack", "metadata"):
        assert int(shown[part.upper()]) == told["bytes"][part]
    for route, count in told["pages"].items():
        assert int(shown["PAGES" if route == "total" else route.upper()]) == count
    assert shown["FACTOR"] == f"{told['factor']:.2f}"
    assert shown["MOUNTPOINT"] == shown["DAEMON"] == shown["BUFFER"] == "-"


def test_what_several_stores_show(stores: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    default = [column.name for column in DEFAULT_COLUMNS]
    for words in (stores, [stores[0], "--bytes"]):
        assert lines(capsys, *words)[0] == default
    assert len(lines(capsys, *stores, "--noheadings")) == 2
    main(["stats", *stores])
    text = capsys.readouterr().out.splitlines()
    assert len({line.index("default") for line in text[1:]} | {text[0].index("RECIPE")}) == 1
    assert len({len(line) for line in text}) == 1  # numbers to the right


def test_help_needs_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["stats", "--output", "help"])
    assert ended.value.code == 0
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert words == [column.name for column in COLUMNS]


def test_columns_that_there_are_not(stores: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", stores[0], "--output", "store,nonsense"]) == 2
    assert "'NONSENSE'" in capsys.readouterr().err
    assert main(["stats", stores[0], "--output", ""]) == 2
    assert main(["stats", stores[0], "--output", "store", "--watch", "1"]) == 2
    with pytest.raises(SystemExit):
        main(["stats", stores[0], "--output", "store", "--json"])
