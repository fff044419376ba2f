"""What sections mean, and which are refused."""

import os
from pathlib import Path

import pytest

from difffs.configuration.files import Files
from difffs.configuration.keys import KINDS, Entry, entries, named
from difffs.configuration.syntax import parse
from difffs.errors import ConfigurationProblem
from difffs.mount.options import parse_options

FILE = Path("/etc/difffs.conf")


def files(text: str) -> Files:
    found = parse(text, FILE)
    return Files((FILE,), {(section.kind, section.name): section for section in found})


def only(text: str) -> Entry:
    (found,) = entries(files(text))
    return found


def complaint(text: str) -> str:
    with pytest.raises(ConfigurationProblem) as caught:
        entries(files(text))
    return str(caught.value)


def test_a_section_alone_has_defaults_for_all() -> None:
    mount = only("[mount guests]")
    assert mount.values == {
        "store": Path("/var/lib/difffs/guests"),
        "mountpoint": Path("/run/difffs/guests"),
        "recipe": None,
        "options": None,
        "refine_tier": "cold",
        "refine_budget": 7200.0,
    }
    assert (mount.unit, mount.mount_options) == ("difffs@guests.service", [])
    swap = only("[swap main]")
    assert swap.values == {
        "store": Path("/var/lib/difffs/main"),
        "size": 4 << 30,
        "priority": None,
        "recipe": None,
        "options": None,
    }
    assert swap.unit == "difffs-swap@main.service"


def test_every_key() -> None:
    mount = only(
        "[mount a]\nstore=/srv//pages/\nmountpoint=/mnt/x\nrecipe=dense\noptions=ro,buffer=1M\n"
        "refine_tier=rest\nrefine_budget=90s"
    )
    assert (mount.store, mount.values["mountpoint"]) == (Path("/srv/pages"), Path("/mnt/x"))
    options = parse_options(mount.mount_options)
    assert (options.recipe, options.read_only, options.buffer_bytes) == ("dense", True, 1 << 20)
    assert (mount.values["refine_tier"], mount.values["refine_budget"]) == ("rest", 90.0)
    assert str(mount.place_of("recipe")) == f"{FILE}:4"
    swap = only("[swap a]\nsize=25%\npriority=32767\noptions=recipe=fast,workers=1")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert (swap.values["size"], swap.values["priority"]) == (memory // 4, 32767)
    assert parse_options(swap.mount_options).recipe == "fast"
    assert swap.place_of("store") is None


@pytest.mark.parametrize(
    ("text", "line", "wanted"),
    [
        ("[zram a]", 1, "[zram a] is of no known kind: there are [mount NAME] and [swap NAME]"),
        ("[mount a/b]", 1, "a/b can be no name"),
        ("[mount ..]", 1, ".. can be no name"),
        ("[mount -a]", 1, "-a can be no name"),
        ("[mount a]\nsize = 1G", 2, "[mount] knows no size: there are store, mountpoint, recipe"),
        ("[swap a]\nSize = 1G", 2, "[swap] knows no Size"),
        ("[mount a]\nstore = pages", 2, "store: pages is no absolute path"),
        ("[mount a]\nmountpoint = ~/x", 2, "mountpoint: ~/x is no absolute path"),
        ("[mount a]\nrecipe = denser", 2, "recipe: "),
        ("[mount a]\noptions = bufer=1M", 2, "options: unknown mount option 'bufer=1M'"),
        ("[mount a]\noptions = recipe=denser", 2, "options: "),
        ("[mount a]\noptions = remount", 2, "remount is for a mount that there is"),
        ("[mount a]\nrecipe = fast\noptions = recipe=fast", 3, "recipe= is a key of its own"),
        ("[mount a]\noptions = change_recipe", 2, "change_recipe needs a recipe"),
        ("[mount a]\nrefine_tier = warm", 2, "refine_tier: no tier 'warm'; there are: cold, rest"),
        ("[mount a]\nrefine_budget = long", 2, "refine_budget: 'long' is no duration"),
        ("[swap a]\nrefine_tier = cold", 2, "[swap] knows no refine_tier"),
        ("[swap a]\noptions = ro", 2, "options: ro is not for swapping"),
        ("[swap a]\nsize = much", 2, "size: 'much' is no size"),
        ("[swap a]\nsize = 4K", 2, "size: 4K is too small for a swap area"),
        ("[swap a]\nsize = 17T", 2, "size: 17T is larger than a volume can be"),
        ("[swap a]\nsize = 0%", 2, "size: 0%: a share of the memory is 1% to"),
        ("[swap a]\nsize = ram / 2", 2, "size: 'ram / 2' is no size"),
        ("[swap a]\npriority = -1", 2, "priority: -1: needs a number from 0 to 32767"),
        ("[swap a]\npriority = 32768", 2, "priority: 32768: needs a number"),
        ("[mount a]\n[swap a]", 2, "/var/lib/difffs/a is the store of [mount a] too"),
        ("[swap a]\nstore=/x\n[swap b]\nstore=/x/y/..", 4, "/x is the store of [swap a] too"),
        ("[mount a]\n[mount b]\nmountpoint=/run/difffs/a", 3, "is the mountpoint of [mount a] too"),
    ],
)
def test_what_is_wrong_is_named(text: str, line: int, wanted: str) -> None:
    said = complaint(text)
    assert said.startswith(f"{FILE}:{line}: ")
    assert wanted in said


def test_a_store_by_two_names_is_one(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("store")
    said = complaint(f"[mount a]\nstore={tmp_path}/store\n[mount b]\nstore={tmp_path}/link")
    assert f"{tmp_path}/link is the store of [mount a] too" in said


def test_a_section_is_good_whatever_is_wrong_with_others() -> None:
    found = files("[mount good]\n[swap bad]\nsize = much\n[other x]\n")
    assert named(found, "mount", "good").name == "good"
    with pytest.raises(ConfigurationProblem, match="much"):
        named(found, "swap", "bad")


def test_a_name_that_is_not_there_tells_of_those_that_are() -> None:
    with pytest.raises(ConfigurationProblem) as caught:
        named(files("[mount a]\n[mount b]\n[swap c]"), "mount", "c")
    assert str(caught.value) == (
        "no [mount c] is configured, but [mount a], [mount b]: add it to /etc/difffs.conf"
    )
    with pytest.raises(
        ConfigurationProblem, match=r"no \[swap c\] is configured: add it to /etc/d"
    ):
        named(Files((), {}), "swap", "c")


def test_every_key_is_explained_and_its_default_is_good() -> None:
    for kind in KINDS.values():
        assert all(key.meaning and key.value for key in kind.keys.values())
        assert only(f"[{kind.name} x]").values.keys() == kind.keys.keys()
