"""What may stand in a section: ``[mount NAME]`` and ``[swap NAME]``, and their keys.

:data:`KINDS` is all that there is to know; the manual and the complaints are made from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difffs.configuration.files import Files
from difffs.configuration.syntax import Place, Section, Value
from difffs.duration import parse_duration
from difffs.errors import ConfigurationProblem, UsageError
from difffs.mount.options import MountOptions, parse_options
from difffs.recipe import recipe_named
from difffs.refine.tiers import tier_named
from difffs.swap_settings import DEFAULT_SIZE, swap_priority, swap_size

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*\Z")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a section."""

    name: str
    value: str
    """What stands for its value where it is shown."""
    default: str
    """Its value when it is not set, with NAME for that of the section; empty: none."""
    meaning: str
    parse: Callable[[str], Any]
    """Returns what a text means. ``UsageError``."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of section."""

    name: str
    meaning: str
    unit: str
    """The systemd unit that reads it."""
    keys: Mapping[str, Key]


@dataclass(frozen=True, slots=True)
class Entry:
    """A section whose values were found good."""

    kind: Kind
    section: Section
    values: Mapping[str, Any]
    """Of every key of its kind: what it means."""

    @property
    def name(self) -> str:
        """Of the section."""
        return self.section.name

    @property
    def store(self) -> Path:
        """The store's directory."""
        store: Path = self.values["store"]
        return store

    @property
    def mount_options(self) -> list[str]:
        """As ``-o`` takes them, the recipe among them."""
        recipe, options = self.values["recipe"], self.values["options"]
        return [*([options] if options else []), *([f"recipe={recipe}"] if recipe else [])]

    @property
    def unit(self) -> str:
        """The systemd unit that brings it about."""
        return self.kind.unit.replace("@", f"@{self.name}")

    def place_of(self, key: str) -> Place | None:
        """Return where a key was set; None when it has its default."""
        value = self.section.values.get(key)
        return None if value is None else value.place


def _path(text: str) -> Path:
    if not text.startswith("/"):
        raise UsageError(f"{text} is no absolute path: begin it with /")
    return Path(os.path.normpath(text))


def _recipe(text: str) -> str:
    recipe_named(text)
    return text


def _options(text: str) -> str:
    parsed = parse_options([text], MountOptions())
    if parsed.remount:
        raise UsageError("remount is for a mount that there is: leave it out")
    if parsed.recipe is not None:
        recipe_named(parsed.recipe)
    return text


def _tier(text: str) -> str:
    return tier_named(text).name


def _swap_options(text: str) -> str:
    if parse_options([_options(text)], MountOptions()).read_only:
        raise UsageError("ro is not for swapping: leave it out")
    return text


_STORE = Key(
    "store",
    "DIRECTORY",
    "/var/lib/difffs/NAME",
    "directory of the store, made if it does not exist",
    _path,
)
_RECIPE = Key(
    "recipe",
    "RECIPE",
    "",
    "recipe of a new store; an existing store's must match",
    _recipe,
)

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "mount",
            "a store mounted on a directory",
            "difffs@.service",
            {
                key.name: key
                for key in (
                    _STORE,
                    Key(
                        "mountpoint",
                        "DIRECTORY",
                        "/run/difffs/NAME",
                        "directory that the store is mounted on, made if it does not exist",
                        _path,
                    ),
                    _RECIPE,
                    Key(
                        "options",
                        "KEY=VALUE,...",
                        "",
                        "as mount takes them with -o",
                        _options,
                    ),
                    Key(
                        "refine_tier",
                        "TIER",
                        "cold",
                        "what difffs-refine@NAME.timer has refine pack to: cold or rest",
                        _tier,
                    ),
                    Key(
                        "refine_budget",
                        "TIME",
                        "2h",
                        "after which that ends, as in 90s, 10m or 2h; the next time goes on from"
                        " there",
                        parse_duration,
                    ),
                )
            },
        ),
        Kind(
            "swap",
            "a store that is swapped to",
            "difffs-swap@.service",
            {
                key.name: key
                for key in (
                    _STORE,
                    Key(
                        "size",
                        "SIZE",
                        DEFAULT_SIZE,
                        "of the swap area: bytes, a number with K, M, G or T, or a share of the"
                        " machine's memory, as in 50%",
                        swap_size,
                    ),
                    Key(
                        "priority",
                        "N",
                        "",
                        "0 to 32767; areas with a higher one are filled first",
                        swap_priority,
                    ),
                    _RECIPE,
                    Key(
                        "options",
                        "KEY=VALUE,...",
                        "",
                        "as mount takes them with -o (buffer=4M, unless set here)",
                        _swap_options,
                    ),
                )
            },
        ),
    )
}
"""By the first word of a section's title."""


def entry(section: Section) -> Entry:
    """Return what a section means. ``ConfigurationProblem`` names the line and the remedy."""
    kind = KINDS.get(section.kind)
    if kind is None:
        known = " and ".join(f"[{name} NAME]" for name in KINDS)
        raise section.place.problem(f"{section.title} is of no known kind: there are {known}")
    if _NAME.match(section.name) is None:
        raise section.place.problem(
            f"{section.name} can be no name: it has letters, digits and _ . : - in it, and begins"
            " with one of the first three"
        )
    for name, value in section.values.items():
        if name not in kind.keys:
            raise value.place.problem(
                f"[{kind.name}] knows no {name}: there are {', '.join(kind.keys)}"
            )
    values = {
        key.name: _meaning(key, section.values.get(key.name), section.name)
        for key in kind.keys.values()
    }
    found = Entry(kind, section, values)
    _check_recipe(found)
    return found


def _meaning(key: Key, value: Value | None, name: str) -> Any:
    if value is None:
        return key.parse(key.default.replace("NAME", name)) if key.default else None
    try:
        return key.parse(value.text)
    except UsageError as error:
        raise value.place.problem(f"{key.name}: {error}") from None


def _check_recipe(found: Entry) -> None:
    options = found.section.values.get("options")
    if options is None:
        return
    parsed = parse_options([options.text], MountOptions())
    if parsed.recipe is not None and found.values["recipe"] is not None:
        raise options.place.problem("recipe= is a key of its own here: leave it out of the options")
    if parsed.change_recipe and parsed.recipe is None and found.values["recipe"] is None:
        raise options.place.problem("change_recipe needs a recipe: set that too")


def entries(files: Files) -> list[Entry]:
    """Return what all sections mean. ``ConfigurationProblem``, also for a place that two have."""
    found = [entry(section) for section in files.sections.values()]
    _refuse_shared(found, "store")
    _refuse_shared(found, "mountpoint")
    return found


def _refuse_shared(found: Iterable[Entry], key: str) -> None:
    """Raise when two share it, by whatever names: they would be in each other's way."""
    owners: dict[str, Entry] = {}
    for one in found:
        if key not in one.values:
            continue
        path = one.values[key]
        owner = owners.setdefault(os.path.realpath(path), one)
        if owner is not one:
            place = one.place_of(key) or one.section.place
            raise place.problem(
                f"{path} is the {key} of {owner.section.title} too: give "
                f"{one.section.title} its own"
            )


def named(files: Files, kind: str, name: str) -> Entry:
    """Return one section's meaning, whatever is wrong with others.

    ``ConfigurationProblem`` when there is none: it tells which there are.
    """
    section = files.sections.get((kind, name))
    if section is not None:
        return entry(section)
    where = str(files.paths[0]) if files.paths else "/etc/difffs.conf"
    others = ", ".join(section.title for section in files.sections.values() if section.kind == kind)
    raise ConfigurationProblem(
        f"no [{kind} {name}] is configured"
        + (f", but {others}" if others else "")
        + f": add it to {where}"
    )
