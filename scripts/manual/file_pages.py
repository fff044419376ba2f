"""Manual pages of files (section 5), from what the program and docs/store-format.md say of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from difffs.configuration.files import FOLDERS, NAME
from difffs.configuration.keys import KINDS
from manual.examples import CONFIGURATION, STORE
from manual.roff import bold, examples, page, paragraphs, part, tagged, text, variable, verbatim

_FORMAT = Path(__file__).parents[2] / "docs/store-format.md"


def configuration_page() -> str:
    """Return difffs.conf(5)."""
    return page(
        "difffs.conf",
        5,
        "mounts and swap areas of difffs, for systemd's units",
        [
            *part("EXAMPLES", examples(CONFIGURATION)),
            *part("SYNOPSIS", _synopsis()),
            *part("DESCRIPTION", _description()),
            *_keys(),
            *part("FILES", _files()),
            *part(
                "SEE ALSO",
                [
                    r"\fBdifffs\-config\fR(1), \fBdifffs\-mount\fR(1), \fBdifffs\-swapon\fR(1), "
                    r"\fBmount.difffs\fR(8), \fBsystemd.unit\fR(5)"
                ],
            ),
        ],
    )


def _synopsis() -> Iterator[str]:
    yield from (text(f"/{FOLDERS[0]}/{NAME}"), ".br", text(f"/{FOLDERS[0]}/{NAME}.d/*.conf"))


def _description() -> Iterator[str]:
    yield from paragraphs(
        "Each section is one mount or one swap area, which the systemd unit of its kind and name "
        "brings about: systemctl enable has it done at boot, and systemctl start now. A section "
        "alone, without keys, is complete.",
        "Lines are a section, KEY = VALUE, or a comment, which begins with # or ;. A value ends "
        "with its line. A name has letters, digits and _ . : - in it. There is nothing that is "
        "passed over: what is unknown, impossible or there twice is an error, which names file, "
        "line and remedy, with exit code 2. A unit reads its own section only, and starts whatever "
        "is wrong with values of others. difffs config checks everything.",
    )


def _keys() -> Iterator[str]:
    for kind in KINDS.values():
        yield from part(f"[{kind.name} NAME]", [])
        unit = bold(kind.unit.replace("@", "@NAME"))
        yield rf"{text(kind.meaning.capitalize())}, by {unit}."
        for key in kind.keys.values():
            default = f" (default: {key.default})" if key.default else ""
            yield from tagged(
                f"{bold(key.name)} = {variable(text(key.value))}", f"{key.meaning}{default}"
            )


def _files() -> Iterator[str]:
    folders = [f"/{folder}" for folder in FOLDERS]
    yield from paragraphs(
        f"Of {NAME}, the first counts that is found in {', '.join(folders)}. Over it come all "
        f"files {NAME}.d/*.conf of these folders, by their names, and replace single keys; of two "
        "with the same name, that of the earlier folder. So an empty file, or a link to /dev/null, "
        "takes away one that a package has brought:"
    )
    yield from verbatim([f"ln -s /dev/null /{FOLDERS[0]}/{NAME}.d/50-of-a-package.conf"])


def store_page() -> str:
    """Return difffs-store(5)."""
    return page(
        "difffs-store",
        5,
        "the directory in which difffs keeps pages",
        [
            *part("EXAMPLES", examples(STORE)),
            *part("SYNOPSIS", _store_synopsis()),
            *part(
                "DESCRIPTION",
                paragraphs(
                    "A store is one directory, private to its owner, which difffs mount, import or "
                    "swapon makes. Only one program has it open for writing at a time. Its bytes "
                    "are described in docs/store-format.md of the source."
                ),
            ),
            *part("FILES", _store_list()),
            *part("COPYING AND DELETING", _copying()),
            *part(
                "SEE ALSO",
                [r"\fBdifffs\fR(1), \fBdifffs\-check\fR(1), \fBdifffs\-mount\fR(1)"],
            ),
        ],
    )


def _store_synopsis() -> Iterator[str]:
    for number, (name, _, _) in enumerate(_store_files()):
        if number:
            yield ".br"
        yield f"{variable('STORE')}/{bold(name)}"


def _store_files() -> Iterator[tuple[str, str, str]]:
    """Name, what it is and whether it is needed, from the format's own table."""
    described = _FORMAT.read_text()
    table = described[described.index("\n## Files\n") :]
    table = table[: table.index("\n### ")]
    for line in re.findall(r"^\| (`.*) \|$", table, re.MULTILINE):
        names, meaning, needed = line.split(" | ")
        for name in names.replace("`", "").split(", "):
            yield name, meaning, needed


def _store_list() -> Iterator[str]:
    for name, meaning, needed in _store_files():
        yield from tagged(bold(name), f"{meaning}. Needed: {needed}.")


def _copying() -> Iterator[str]:
    yield from paragraphs(
        "A store that is not mounted may be copied, moved and renamed as a whole, by cp, rsync or "
        "tar: with holes as holes, since payloads looks far larger than what it occupies. A copy "
        "of a mounted one is worth nothing, because its files would not fit each other: copy files "
        "out of the mount.",
        "What is not needed may be deleted while the store is not mounted. Without digests and "
        "sketches, pages that come later find fewer of their like. Nothing else may be changed or "
        "deleted, nor files of one store be put into another.",
        "Whoever reads the directory reads the memory that is in it. It is not encrypted.",
    )
