"""``difffs COMMAND ...``: find the command, run it, turn errors into one line and an exit code.

Each command is a module with ``configure(parser)`` and ``run(arguments) -> exit code``, imported
only when it is the one asked for.
"""

import argparse
import errno
import importlib
import os
import sys
from typing import NamedTuple

from difffs import __version__
from difffs.errors import DifffsError
from difffs.progress import told_on_request
from difffs.signals import EndedBySignal, ending_by_exception
from difffs.standard_streams import (
    ReaderGone,
    ensure_standard_streams,
    flushed_output,
    protect_standard_streams,
)


class Command(NamedTuple):
    """A subcommand: the module that holds it and its line in the help."""

    module: str
    summary: str


COMMANDS = {
    "mount": Command("mount", "mount a store, making it first if need be"),
    "umount": Command("umount", "write everything to the store and unmount it"),
    "import": Command("import_image", "store memory images: raw ones, and those of hypervisors"),
    "export": Command("export_image", "write a volume or an image to a file"),
    "ls": Command("list_volumes", "list a store's volumes with what each takes"),
    "rm": Command("remove_volumes", "remove volumes from a store that is not mounted"),
    "mv": Command("rename_volume", "rename a volume of a store that is not mounted"),
    "stats": Command("stats", "show what a store holds and saves"),
    "refine": Command("refine", "pack what rests more densely, in groups of like pages"),
    "check": Command("check", "verify a store: every invariant and checksum"),
    "upgrade": Command("upgrade", "give a store of a former format the current one"),
    "swapon": Command("swapon", "swap to a store"),
    "swapoff": Command("swapoff", "stop swapping to a store"),
    "run": Command("run", "run a command, a guest say, on less resident memory"),
    "config": Command("config", "check and show what is configured for systemd's units"),
    "doctor": Command("doctor", "show what this host offers and lacks, each with its remedy"),
    "study": Command("study", "find out what each mechanism is worth on memory images"),
}

_EXIT_CODES = """\
exit codes:
  0 ok                     6 store or payload damaged   11 volume exists
  1 completed, findings    7 store is read-only         12 mount point unusable
  2 usage or environment   8 no space left, or the      13 I/O error of the store
  3 not a store              output not writable       129 ended by SIGHUP
  4 another store format   9 other recipe              130 interrupted
  5 store in use          10 no such volume or swap    141 reader of stdout gone
                        126 command not executable   143 ended by SIGTERM
                        127 no such command
run has the exit code of its command.
"""

_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_LIMITS = "free some, or raise the limit (ulimit -n, ulimit -v)"

MOUNT_HELPER_NAMES = ("mount.fuse.difffs", "mount.difffs")
"""Under which names mount(8) calls this program."""


class _Versions(argparse.Action):
    """Versions are looked for when they are asked for: that loads libraries."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from difffs.libraries import version_lines

        print(f"difffs {__version__}", *version_lines(), sep="\n")
        parser.exit()


def build_parser(chosen: str | None, *, every: bool = False) -> argparse.ArgumentParser:
    """Return the parser; only the ``chosen`` command's own arguments are known to it, or those of
    ``every`` command."""
    parser = argparse.ArgumentParser(
        prog="difffs",
        description="Keeps memory pages in a fraction of their size, behind files that a guest "
        "can run on and a host can swap to.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action=_Versions,
        nargs=0,
        default=argparse.SUPPRESS,
        help="show the versions of difffs and of the libraries that it uses, and exit",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=command.summary, description=command.summary, allow_abbrev=False
        )
        if every or name == chosen:
            module = importlib.import_module(f"difffs.cli.{command.module}")
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def mount_helper_arguments(arguments: list[str]) -> list[str]:
    """Return the ``mount`` command for what mount(8) passes to its helpers.

    That is ``SOURCE MOUNTPOINT [-sfnv] [-N namespace] [-o options] [-t type]``.
    """
    parser = argparse.ArgumentParser(prog="mount.fuse.difffs", allow_abbrev=False)
    parser.add_argument("store")
    parser.add_argument("mountpoint")
    parser.add_argument("-o", action="append", default=[], dest="options")
    parser.add_argument("-t", dest="kind")
    parser.add_argument("-N", dest="namespace")
    for flag in "sfnv":
        parser.add_argument(f"-{flag}", action="store_true", dest=f"flag_{flag}")
    parsed = parser.parse_args(arguments)
    command = ["mount"]
    for options in parsed.options:
        command += ["-o", options]
    if parsed.flag_f:
        command.append("--fake")
    return [*command, "--", parsed.store, parsed.mountpoint]


def _is_mount_helper_call(program: str, arguments: list[str]) -> bool:
    if os.path.basename(program) in MOUNT_HELPER_NAMES:
        return True
    # mount.fuse calls `difffs SOURCE MOUNTPOINT -o ...`. Without a slash it is a mistyped command:
    # a source of that form is given as ./SOURCE.
    return (
        len(arguments) >= 3
        and "/" in arguments[0]
        and not any(argument.startswith("-") for argument in arguments[:2])
        and arguments[2].startswith("-")
    )


def main(arguments: list[str] | None = None, program: str | None = None) -> int:
    """Run the command line and return its exit code."""
    ensure_standard_streams()
    protect_standard_streams()
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with ending_by_exception(), told_on_request(), flushed_output():
            return _run(given, sys.argv[0] if program is None else program)
    except DifffsError as error:
        print(f"difffs: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.errno not in _NO_RESOURCES:
            raise
        print(f"difffs: {error.filename or 'this'}: {error.strerror}; {_LIMITS}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("difffs: interrupted", file=sys.stderr)
        return 130
    except EndedBySignal as ended:
        print(f"difffs: ended by {ended}", file=sys.stderr)
        return ended.exit_code
    except ReaderGone:
        return 141


def _run(given: list[str], program: str) -> int:
    if _is_mount_helper_call(program, given):
        given = mount_helper_arguments(given)
    chosen = next((argument for argument in given if not argument.startswith("-")), None)
    parsed = build_parser(chosen).parse_args(given)
    code: int = parsed.run(parsed)
    return code
