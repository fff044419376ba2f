"""``difffs study IMAGE...``."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difffs.cli.arguments import filled, filled_path
from difffs.cli.report import print_json
from difffs.cli.results import require_writable_file, require_writable_folder
from difffs.errors import NO_ROOM, EnvironmentProblem, UsageError
from difffs.progress import Progress
from difffs.recipe import RECIPES
from difffs.standard_streams import output_problem

if TYPE_CHECKING:
    from difffs.study.cache import Cache
    from difffs.study.context import Context
    from difffs.study.corpus import Corpus
    from difffs.study.executors.cluster import ClusterChoice
    from difffs.study.executors.executor import Executor

_COMPARED = (
    "default",
    "fast",
    "dense",
    "difference-engine",
    "identical-only",
    "patch-only",
    "compress-only",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        type=filled_path,
        help="memory images, raw or in a format that `difffs import` knows, or folders of *.mem;"
        " the images of one folder are one corpus",
    )
    parser.add_argument(
        "--as-is",
        action="store_true",
        help="take the files' bytes for the memory, whatever format they are in",
    )
    parser.add_argument(
        "--questions", metavar="N,N", help="of the eight questions only these; 0 for none"
    )
    parser.add_argument(
        "--recipes",
        metavar="A,B",
        help=f"recipes to compare ({','.join(_COMPARED)}); alone: without any question",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        type=filled,
        help="everything as JSON (on stdout)",
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        type=filled_path,
        help="write an HTML page, plots and CSV tables there",
    )
    parser.add_argument(
        "--recording",
        metavar="FILE",
        type=filled_path,
        action="append",
        default=[],
        help="a running guest recorded by scripts/record-guest, for question 6",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=filled_path,
        help="results of passes ($XDG_CACHE_HOME/difffs/study)",
    )
    parser.add_argument(
        "--scratch",
        metavar="DIR",
        type=filled_path,
        help="room for stores, and for memory taken out of images (/dev/shm)",
    )
    parser.add_argument("--workers", metavar="N", type=int, help="passes at once (a core each)")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS|local[:N]",
        type=filled,
        help="have passes made by the workers of a Dask scheduler, to whom the --cache has to be"
        " the same folder; or by N of this machine (a core each)",
    )
    parser.add_argument(
        "--share-images",
        action="store_true",
        help="copy the images into the cache's folder, for workers of a cluster that lack them",
    )
    parser.add_argument(
        "--sample",
        metavar="N",
        type=int,
        default=3000,
        help="pages or pairs of a corpus that slow measurements look at (3000)",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="of the samples (1)")
    parser.add_argument(
        "--passes-only",
        action="store_true",
        help="fill the cache and print nothing: for hosts that share out the images",
    )


def run(arguments: argparse.Namespace) -> int:
    """Study the images."""
    try:
        import matplotlib  # noqa: F401  (looked for now, not after an hour)
        import numpy  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            f"the study needs the Python package {error.name}: pip install 'difffs[study]'"
        ) from None
    from difffs.cli.importing import FormatChoice
    from difffs.cli.study_images import find_images, prepared
    from difffs.study import study, terminal
    from difffs.study.cache import Cache
    from difffs.study.context import Context
    from difffs.study.recording import Recording

    cluster = _cluster(arguments)
    questions = _questions(arguments)
    recipes = _recipes(arguments)
    if arguments.sample < 1 or (arguments.workers is not None and arguments.workers < 1):
        raise UsageError("--sample and --workers need numbers from 1 on")
    if not arguments.passes_only:
        if arguments.json not in (None, "-"):
            require_writable_file(arguments.json)
        if arguments.report is not None:
            require_writable_folder(arguments.report)
    for recording in arguments.recording:
        Recording.read(recording)  # says so now when it is none
    paths = find_images(arguments.images)
    cache = Cache(arguments.cache or _default_cache())
    workers = cluster.workers if cluster else arguments.workers or os.cpu_count() or 1
    choice = FormatChoice.of(None, as_is=arguments.as_is)
    with (
        prepared(paths, arguments.scratch, workers, choice) as (scratch, corpora),
        _executor(cluster, workers, cache, scratch) as executor,
    ):
        if arguments.share_images:
            _share_images(corpora, cache)
        context = Context(
            corpora,
            cache,
            scratch,
            executor,
            arguments.sample,
            arguments.seed,
            recordings=tuple(path.resolve() for path in arguments.recording),
        )
        quiet = arguments.passes_only or arguments.json == "-"
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
        with _progress(context):
            compared = study.compare_recipes(context, recipes)
            if not quiet and compared:
                print(terminal.render_table(study.recipe_table(compared), columns))
            answers = []
            if questions is None or questions:
                answers = study.answer(
                    context,
                    questions,
                    lambda section: (
                        None
                        if quiet
                        else print(f"\n\n{terminal.render_section(section, columns)}", flush=True)
                    ),
                )
        if arguments.passes_only:
            return 0
        report = study.report(context, answers, compared, _command(arguments))
    _deliver(arguments, report, answers, compared)
    return 0


def _deliver(
    arguments: argparse.Namespace, report: dict[str, Any], answers: list[Any], compared: Any
) -> None:
    import json

    if arguments.json == "-":
        print_json(report)
    elif arguments.json:
        try:
            Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")
        except OSError as error:
            if error.errno in NO_ROOM:
                raise output_problem(arguments.json, error) from None
            raise UsageError(f"{arguments.json} cannot be written: {error.strerror}") from None
    if arguments.report:
        from difffs.study import study
        from difffs.study.report import write_report

        tables = [study.recipe_table(compared)] if compared else []
        page = write_report(arguments.report, report, answers, tables)
        print(f"report: {page}", file=sys.stderr)


def _cluster(arguments: argparse.Namespace) -> ClusterChoice | None:
    if arguments.cluster is None:
        if arguments.share_images:
            raise UsageError("--share-images is for the workers of a --cluster: name one")
        return None
    if arguments.workers is not None:
        raise UsageError("--workers is for passes without --cluster: say --cluster local:N")
    try:
        from difffs.study.executors.cluster import ClusterChoice
    except ImportError as error:
        raise EnvironmentProblem(
            f"--cluster needs the Python package {error.name}: pip install 'difffs[cluster]'"
        ) from None
    return ClusterChoice.parse(arguments.cluster, os.cpu_count() or 1)


@contextlib.contextmanager
def _executor(
    cluster: ClusterChoice | None, workers: int, cache: Cache, scratch: Path
) -> Iterator[Executor]:
    if cluster is None:
        from difffs.study.executors.processes import Processes

        yield Processes(workers)
    else:
        from difffs.study.executors.cluster import connected

        with connected(cluster, cache, scratch) as executor:
            yield executor


def _share_images(corpora: Sequence[Corpus], cache: Cache) -> None:
    from difffs.study.image_finder import share

    images = [image for corpus in corpora for image in corpus.images]
    with Progress("sharing images", len(images), unit="images") as progress:
        for image in images:
            share(image, cache.folder)
            progress.advance(1)


def _questions(arguments: argparse.Namespace) -> list[int] | None:
    """None: all; an empty list: none."""
    if arguments.questions is None:
        return [] if arguments.recipes else None
    try:
        numbers = [int(word) for word in arguments.questions.split(",")]
    except ValueError:
        raise UsageError(f"--questions {arguments.questions}: needs numbers, as in 1,3") from None
    chosen = [number for number in numbers if number]
    if chosen:
        from difffs.study.study import section_modules

        section_modules(chosen)  # says so now when one is unknown
    return chosen


def _recipes(arguments: argparse.Namespace) -> list[str]:
    names = list(_COMPARED) if arguments.recipes is None else arguments.recipes.split(",")
    for name in names:
        if name not in RECIPES:
            raise UsageError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    return names


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "difffs" / "study"


@contextlib.contextmanager
def _progress(context: Context) -> Iterator[None]:
    """Show how many passes of the current kind are done."""
    bars: dict[str, Progress] = {}

    def tell(name: str, done: int, count: int) -> None:
        if name not in bars:
            bars[name] = Progress(name, count, unit="passes")
            bars[name].start()
        bars[name].update(done, count)
        if done == count:
            bars.pop(name).stop()

    context.progress = tell
    try:
        yield
    finally:
        for bar in bars.values():
            bar.stop()


def _command(arguments: argparse.Namespace) -> str:
    words = ["difffs", "study"]
    for option in ("questions", "recipes"):
        if value := getattr(arguments, option):
            words += [f"--{option}", value]
    for recording in arguments.recording:
        words += ["--recording", recording.name]
    if arguments.sample != 3000:
        words += ["--sample", str(arguments.sample)]
    if arguments.seed != 1:
        words += ["--seed", str(arguments.seed)]
    if arguments.as_is:
        words.append("--as-is")
    if arguments.report:
        words += ["--report", arguments.report.name]
    return shlex.join([*words, *(path.name for path in arguments.images)])
