"""difffs study, as a user calls it, on the small corpus `alike`."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from difffs.cli.main import main
from difffs.recipe import RECIPES
from difffs.study import sections
from difffs.study.context import Context
from difffs.study.executors import processes
from difffs.study.importing import import_pass
from difffs.study.result import Column, Plot, PlotKind, Section, Table, Unit
from tests.study.conftest import image_folder, scratch_folder, shared_cache  # noqa: F401
from tests.study.times_apart import without_times

RECIPE_NAMES = "default,identical-only"


def factors(context: Context) -> Section:
    """A question that takes one pass a corpus, and tells which recordings it was given."""
    recipe = RECIPES["identical-only"]
    passes = [import_pass(corpus.images, recipe) for corpus in context.corpora]
    rows = [
        {"corpus": corpus.name, "factor": result["factor"], "sample": context.sample}
        for corpus, result in zip(context.corpora, context.results(passes), strict=True)
    ]
    columns = [
        Column("corpus", "corpus"),
        Column("factor", "factor", Unit.FACTOR),
        Column("sample", "sample", Unit.COUNT),
    ]
    table = Table("factors", "Factors", columns, rows)
    plot = Plot("factors", "Factors", PlotKind.BARS, "factors", "corpus", "factor")
    absent = [f"recording {path.name}" for path in context.recordings]
    told = f"A factor of {table.text('factor', corpus='alike')}."
    return Section(2, "factors", "How much?", [table], [plot], told, absent=absent)


@pytest.fixture(autouse=True)
def one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only question 2, made up."""
    monkeypatch.setattr(sections, "SECTIONS", {2: "factors"})
    module = SimpleNamespace(NUMBER=2, NAME="factors", TITLE="How much?", run=factors)
    monkeypatch.setitem(sys.modules, "difffs.study.sections.factors", module)


@pytest.fixture
def words(image_folder: Path, shared_cache: Path, scratch_folder: Path) -> list[str]:  # noqa: F811
    """The command with its images, cache and scratch."""
    folders = ["--cache", str(shared_cache), "--scratch", str(scratch_folder)]
    return ["study", *folders, str(image_folder / "alike")]


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when a pass is made."""

    def forbidden(*_: object, **__: object) -> None:
        pytest.fail("a pass is made that was in the cache")

    monkeypatch.setattr(processes, "ProcessPoolExecutor", forbidden)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a call that is refused with exit code 2."""
    capsys.readouterr()
    assert main(["study", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("difffs: ")
    return line


def test_a_terminal_shows_recipes_and_answers(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--recipes", RECIPE_NAMES, "--questions", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("Named recipes") < shown.index("2. How much?\n============")
    lines = [line.split() for line in shown.splitlines()]
    assert ["alike", "default"] in [line[:2] for line in lines]
    assert "identical-only" in [line[0] for line in lines if line]
    assert "A factor of " in shown
    assert "3,000" in shown, "the sample, unless told"


def test_json_is_one_object_and_nothing_else(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--recipes", RECIPE_NAMES, "--questions", "2", "--sample", "60", "--seed", "7"]
    assert main([*words, *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["recipes"]) == RECIPE_NAMES.split(",")
    assert list(report["sections"]) == ["factors"]
    assert report["sections"]["factors"]["tables"]["factors"]["rows"][0]["sample"] == 60
    assert report["command"] == (
        f"difffs study --questions 2 --recipes {RECIPE_NAMES} --sample 60 --seed 7 alike"
    )

    path = tmp_path / "study.json"
    assert main([*words, *options, f"--json={path}"]) == 0
    assert "Named recipes" in capsys.readouterr().out, "to a file: the terminal as without it"
    written = json.loads(path.read_text())
    assert settled(written) == settled(report)


def settled(report: dict[str, Any]) -> dict[str, Any]:
    """Without what tells when it was made."""
    told = {**report, "made": None}
    told["sections"] = {
        name: {**section, "seconds": 0} for name, section in report["sections"].items()
    }
    return told


def test_a_report_is_written_into_a_folder(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    options = ["--recipes", "default", "--questions", "2", "--report", str(folder), "--json"]
    assert main([*words, *options]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == json.loads((folder / "report.json").read_text())
    assert f"report: {folder / 'index.html'}" in output.err
    names = {path.name for path in folder.iterdir()}
    assert {"index.html", "recipes.csv", "factors.csv", "factors.svg"} <= names
    assert "A factor of " in (folder / "index.html").read_text()


def test_recipes_alone_are_compared_without_a_question(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--recipes", "default", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["recipes"]) == ["default"]
    assert report["sections"] == {}


def test_images_of_several_folders_are_several_corpora(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(words[-1]).parent
    more = [str(folder), str(folder / "alike" / "one.mem")]
    assert main([*words, *more, "--recipes", "default", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(image["corpus"], image["name"]) for image in report["images"]] == [
        ("alike", "one"),
        ("alike", "two"),
        ("different", "one"),
        ("different", "two"),
    ]
    assert set(report["recipes"]["default"]["corpora"]) == {"alike", "different"}


def test_passes_only_fill_the_cache_and_the_rest_does_no_work(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    words += ["--cache", str(tmp_path / "cache"), "--recipes", "identical-only", "--questions", "2"]
    assert main([*words, "--passes-only"]) == 0
    assert capsys.readouterr().out == ""
    kept = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert len(kept) == 2, "a recipe compared, and the question's pass"
    request.getfixturevalue("no_work")
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["recipes"]["identical-only"]["factor"] > 1
    assert report["sections"]["factors"]["conclusion"]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == kept


def test_nothing_is_left_in_scratch(words: list[str]) -> None:
    room = Path(words[words.index("--scratch") + 1])
    assert main([*words, "--recipes", "default"]) == 0
    assert list(room.iterdir()) == []


def test_recordings_reach_their_question(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vm.jsonl"
    path.write_text('{"schema_version":1,"name":"vm","about":{}}\n')
    options = ["--recipes", "default", "--questions", "2", "--recording", str(path), "--json"]
    assert main([*words, *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sections"]["factors"]["absent"] == ["recording vm.jsonl"]
    assert "--recording vm.jsonl" in report["command"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--questions", "3"], "no question 3; there are 2"),
        (["--questions", "two"], "--questions two: needs numbers"),
        (["--recipes", "dafault"], "no recipe 'dafault'; there are: default"),
        (["--recipes", ""], "no recipe ''"),
        (["--sample", "0"], "--sample and --workers need numbers from 1 on"),
        (["--workers", "0"], "--sample and --workers need numbers from 1 on"),
        (["--scratch", "/nowhere/at/all"], "--scratch /nowhere/at/all: No such file"),
        (["--cache", "/dev/null/cache"], "/dev/null/cache cannot be made"),
        (["--json", "/dev/null/study.json"], "study.json cannot be written: /dev/null is no dir"),
        (["--json", "/nowhere/study.json"], "study.json cannot be written: /nowhere is no dir"),
        (["--json", "/"], "/ is a directory"),
        (["--report", "/dev/null/a/report"], "report cannot be written: /dev/null is no directory"),
        (["--recording", "gone.jsonl"], "recording gone.jsonl cannot be read"),
        (["--recording", "/dev/null"], "recording /dev/null is none of scripts/record-guest"),
    ],
)
@pytest.mark.usefixtures("no_work")
def test_bad_options_are_refused_before_any_work(
    options: list[str], said: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in complaint(capsys, *words[1:], *options)


@pytest.mark.usefixtures("no_work")
def test_bad_images_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no *.mem in or below" in complaint(capsys, str(tmp_path))
    assert "gone.mem cannot be read" in complaint(capsys, str(tmp_path / "gone.mem"))
    (tmp_path / "short.mem").write_bytes(bytes(100))
    assert "at least a page" in complaint(capsys, str(tmp_path))


def test_results_that_cannot_be_written_are_a_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report" / "report.json").mkdir(parents=True)  # known only when it is written
    for option in (f"--json={'x' * 256}", f"--report={tmp_path / 'report'}"):
        capsys.readouterr()
        assert main([*words, "--recipes", "default", option]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "cannot be written" in line


def test_scratch_without_room_is_a_line(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=4096))
    assert "no room for stores" in complaint(capsys, *words[1:], "--recipes", "default")


def test_results_that_find_no_room(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--recipes", "identical-only", "--json", "/dev/full"]) == 8
    assert "/dev/full cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_scratch_folder_behind(
    tmp_path: Path,
    image_folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    from difffs.study import study

    def end(context: Context, _recipes: list[str]) -> None:
        assert context.scratch.parent == tmp_path
        (context.scratch / "store").write_text("half a store")
        os.kill(os.getpid(), number)

    monkeypatch.setattr(study, "compare_recipes", end)
    words = ["--scratch", str(tmp_path), "--cache", str(tmp_path / "cache")]
    assert main(["study", *words, str(image_folder / "alike")]) == 128 + number
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


# --------------------------------------------------------------------------------------- cluster


def test_a_cluster_makes_the_same_report(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--questions", "2", "--recipes", "identical-only", "--sample", "60", "--json"]
    assert main([*words, *options]) == 0
    expected = json.loads(capsys.readouterr().out)
    others = ["--cache", str(tmp_path / "shared"), "--cluster", "local:1", "--share-images"]
    assert main([*words, *options, *others]) == 0
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert [one["workers"] for one in found.pop("workers")] == [1]
    assert expected.pop("workers") == []
    assert without_times({**found, "made": ""}) == without_times({**expected, "made": ""})
    assert output.err == ""
    images = {path.stem for path in (tmp_path / "shared" / "images").iterdir()}
    assert images == {image["sha256"] for image in found["images"]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cluster", "local:0"], "--cluster local:0: needs a number from 1 on"),
        (["--cluster", "local", "--workers", "2"], "say --cluster local:N"),
        (["--share-images"], "--share-images is for the workers of a --cluster"),
        (["--cluster", ""], "an argument is empty"),
    ],
)
@pytest.mark.usefixtures("no_work")
def test_bad_clusters_are_refused_before_any_work(
    options: list[str], said: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in complaint(capsys, *words[1:], *options)


def test_a_cluster_without_dask_is_refused_in_a_line(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "difffs.study.executors.cluster", raising=False)
    said = complaint(capsys, *words[1:], "--cluster", "local")
    assert said == (
        "difffs: --cluster needs the Python package distributed: pip install 'difffs[cluster]'"
    )


def test_dask_is_imported_for_a_cluster_only(words: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom difffs.cli.main import main\nstatus = main(sys.argv[1:])\n"
        "sys.exit(status or any(name in sys.modules for name in ('dask', 'distributed')))"
    )
    options = ["--cache", str(tmp_path), "--recipes", "identical-only", "--json", "/dev/null"]
    done = subprocess.run([sys.executable, "-c", program, *words, *options], check=False)
    assert done.returncode == 0
