"""``difffs run [options] -- COMMAND...``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from difffs.cli.arguments import filled_path
from difffs.cli.report import print_json
from difffs.cli.results import require_writable_file
from difffs.errors import EnvironmentProblem, UsageError
from difffs.running.rule import parse_rule

MOUNTPOINT_VARIABLE = "DIFFFS_MOUNTPOINT"
"""What tells the command where its store is mounted."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s [options] -- COMMAND [ARGUMENT...]"
    parser.add_argument(
        "--resident",
        metavar="SIZE|PERCENT|auto",
        type=parse_rule,
        default="auto",
        help="what stays in memory: all in all (512M), a part of the guest RAM beside the command's"
        " own memory (50%%), or what it needs (auto, the default)",
    )
    parser.add_argument(
        "--store",
        metavar="STORE",
        type=filled_path,
        help="mount this store for the command, which finds the mount point in"
        f" ${MOUNTPOINT_VARIABLE}; made if it does not exist. Without, the command uses mounts that"
        " are there",
    )
    parser.add_argument(
        "-o",
        dest="options",
        metavar="KEY=VALUE,...",
        action="append",
        default=[],
        help="for --store, as of difffs mount",
    )
    parser.add_argument("--json", action="store_true", help="at the end, one JSON object on stdout")
    parser.add_argument("--report", metavar="FILE", help="at the end, the JSON object into a file")
    parser.add_argument("--quiet", action="store_true", help="tell nothing on stderr at the end")
    parser.add_argument("words", metavar="COMMAND", nargs="+", help="what to run, behind --")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from difffs.mount.options import parse_options

    if arguments.options and arguments.store is None:
        raise UsageError("-o is for --store, which is not given")
    if arguments.report is not None:
        require_writable_file(arguments.report)
    options = parse_options(arguments.options)
    if options.read_only or options.remount:
        raise UsageError("-o ro and -o remount are not for running: leave them out")
    with _mounted(arguments.store, options):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from difffs.cgroup.finding import memory_group
    from difffs.cgroup.group import make_group
    from difffs.doctor.host import Host
    from difffs.running.command import run_in_group
    from difffs.running.report import lines, report
    from difffs.running.watch import Watch

    rule, command = arguments.resident, arguments.words
    group = make_group(memory_group(Host()), f"difffs-run-{os.getpid()}")
    try:
        watch = Watch(group, rule)

        def tell() -> None:
            for line in lines(report(command, rule, group, watch.found(), None)):
                print(f"difffs: {line}", file=sys.stderr, flush=True)

        status = run_in_group(command, group, tell, watch.start)
        found: dict[str, Any] = report(command, rule, group, watch.stop(), status)
    finally:
        if not group.remove():
            print(f"difffs: {group.folder} stays: processes are in it", file=sys.stderr)
    if not arguments.quiet:
        for line in lines(found):
            print(f"difffs: {line}", file=sys.stderr, flush=True)
    if arguments.json:
        print_json(found)
    if arguments.report is not None:
        _write(arguments.report, found)
    return status


def _write(target: str, found: dict[str, Any]) -> None:
    import json

    from difffs.cli.whole_file import whole_file
    from difffs.standard_streams import output_problem

    with whole_file(target, target) as file:
        try:
            with os.fdopen(file, "w", encoding="utf-8", closefd=False) as written:
                json.dump(found, written, indent=2)
                written.write("\n")
        except OSError as error:
            raise output_problem(target, error) from error


@contextmanager
def _mounted(store: Path | None, options: Any) -> Iterator[None]:
    """Have the store mounted, and its mount point in the environment; as it was afterwards."""
    if store is None:
        yield
        return
    from difffs.mount.daemon import mount_in_background
    from difffs.mount.live import mountpoints_of
    from difffs.mount.unmount import unmount

    places = mountpoints_of(store)
    if places:
        if options != type(options)():
            raise UsageError(f"{store} is mounted on {places[0]} already: -o comes too late")
        os.environ[MOUNTPOINT_VARIABLE] = places[0]
        yield
        return
    directory = _runtime_folder() / f"run-{os.getpid()}"
    try:
        directory.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise EnvironmentProblem(f"{directory} cannot be made: {error.strerror}") from None
    try:
        mount_in_background(store, directory, options)
        os.environ[MOUNTPOINT_VARIABLE] = str(directory)
        try:
            yield
        finally:
            for warning in unmount(str(directory)):
                print(f"difffs: {warning}", file=sys.stderr)
    finally:
        try:
            directory.rmdir()
        except OSError as error:
            print(f"difffs: {directory} stays: {error.strerror}", file=sys.stderr)


def _runtime_folder() -> Path:
    """Where this user's mount points are: they go with the session, or with the machine."""
    if os.geteuid() == 0:
        return Path("/run/difffs")
    folder = os.environ.get("XDG_RUNTIME_DIR")
    if folder is None:
        raise EnvironmentProblem(
            "XDG_RUNTIME_DIR is not set: mount the store yourself, and leave out --store"
        )
    return Path(folder) / "difffs"
