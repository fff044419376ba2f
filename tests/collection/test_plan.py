"""The plan holds the corpora that it promises, and the command line picks from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from collection import plan
from collection.disks import GUEST_FILES
from collection.options import parse
from collection.plan import CORPORA, FULL, SMALL, members, systems
from collection.releases import SYSTEMS


def test_files_are_named_once() -> None:
    files = [file for member in (*FULL, *SMALL) for file in member.files]
    assert len(set(files)) == len(files)
    hosts = [(member.corpus, member.name) for member in (*FULL, *SMALL)]
    assert len(set(hosts)) == len(hosts)


def test_clones_do_the_same_work_with_different_loads() -> None:
    clones = members(["ident"])
    assert len(clones) == 4
    assert len({(clone.system_name, clone.work, clone.mebibytes) for clone in clones}) == 1
    assert len({clone.load for clone in clones}) == 4
    assert len({clone.seed for clone in clones}) == 4


@pytest.mark.parametrize("corpus", ["mixed-1", "mixed-2"])
def test_mixtures_have_three_releases_and_three_kinds_of_work(corpus: str) -> None:
    mixed = members([corpus])
    assert len(mixed) == 3
    assert len({member.system.release for member in mixed}) == 3
    assert len({member.work for member in mixed}) == 3


def test_a_series_is_one_guest_at_four_times() -> None:
    (one,) = members(["series"])
    assert len(one.files) == len(one.pauses) == 4
    assert list(one.pauses) == sorted(set(one.pauses))


def test_the_small_corpus_is_two_guests_of_one_disk() -> None:
    assert len(SMALL) == 2
    assert {member.mebibytes for member in SMALL} == {128}
    assert len({member.work for member in SMALL}) == 2
    assert len(systems(SMALL)) == 1


def test_every_kind_of_work_is_there_and_explained() -> None:
    text = (GUEST_FILES / "workload").read_text()
    explained = re.findall(r"^#   (\w+) +(?:Debian \d+|any) ", text, re.MULTILINE)
    for member in (*FULL, *SMALL):
        for part in ("prepare", "round"):
            assert re.search(rf"^{part}_{member.work}\(\)", text, re.MULTILINE), member.work
        assert member.work in explained


def test_systems_are_built_once_and_before_they_are_needed() -> None:
    needed = systems(FULL)
    assert len({system.name for system in needed}) == len(needed)
    assert {system.name for system in needed} == {member.system_name for member in FULL}
    assert all(SYSTEMS[system.name] is system for system in needed)


def test_options_pick_members() -> None:
    assert parse(["x"]).members == FULL
    assert parse(["x", "--small"]).members == SMALL
    some = parse(["x", "--corpora", "series,ident"]).members
    assert {member.corpus for member in some} == {"series", "ident"}
    assert parse(["x"]).folder == Path("x").absolute()
    assert tuple(dict.fromkeys(member.corpus for member in plan.FULL)) == CORPORA


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["x", "y"],
        ["x", "--corpora", "everything"],
        ["x", "--jobs", "0"],
        ["x", "--small", "--corpora", "ident"],
        ["x", "--accel", "xen"],
        ["a,b"],
    ],
)
def test_wrong_usage_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(words)
    assert refused.value.code == 2
    assert "collect-images" in capsys.readouterr().err
