"""Section 7: with peers made up, and with those that this host has."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from difffs.study.context import Context
from difffs.study.peers import btrfs, ksm, squashfs, whole_archive, zram
from difffs.study.peers.peer import Found, Peer, absent
from difffs.study.result import Section
from difffs.study.sections import peers
from tests.study.passes import halves
from tests.study.peers.conftest import host_as_before  # noqa: F401  (a fixture)
from tests.study.sections.section_checks import check_cells, check_plots, check_words

KSM_FIGURES = {
    "pages_shared": 10,
    "pages_sharing": 50,
    "pages_unshared": 900,
    "ksm_zero_pages": 14,
    "profit": 64 * 4096 - 9000,
}


def made_up(name: str, of: float, **changes: object) -> Peer:
    """A peer that stores a page for each `of` pages."""
    parameters = {"of": of, **changes.pop("parameters", {})}  # type: ignore[dict-item]
    return replace(Peer(name, f"made up {name}", 1, halves, parameters), **changes)  # type: ignore[arg-type]


def finder(*found: Peer) -> Callable[[], Found]:
    return lambda: Found(list(found), [])


@pytest.fixture
def made_up_peers(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each class that is worse than difffs, an archive that is better, one that is absent,
    and one that fails on the corpus `different`.
    """
    refuses = [image.sha256 for image in context.corpora[1].images]
    monkeypatch.setattr(
        peers,
        "FINDERS",
        (
            finder(
                made_up("twice", 2),
                made_up("merged", 1, kind="ksm", parameters={"figures": KSM_FIGURES}),
            ),
            finder(made_up("fussy", 3, parameters={"refuses": refuses})),
            finder(made_up("blocks", 2, place="file", read="128 KiB", write="128 KiB")),
            finder(made_up("stream", 500, place="file", read="all before it", write="all")),
            lambda: absent("nowhere", "this kernel has none"),
        ),
    )


@pytest.fixture
def section(context: Context, made_up_peers: None, monkeypatch: pytest.MonkeyPatch) -> Section:
    """With one recipe to judge: its words are what is compared."""
    monkeypatch.setattr(peers, "JUDGED", ("default",))
    return peers.run(context)


def test_every_peer_stands_beside_the_recipes(section: Section) -> None:
    names = [row["peer"] for row in section.table("peers").rows if row["corpus"] == "alike"]
    ours = [f"difffs {name}" for name in peers.RECIPES_BESIDE]
    assert names == [*ours, "twice", "merged", "fussy", "blocks", "stream"]
    by_name = {row["peer"]: row for row in section.table("peers").rows if row["corpus"] == "alike"}
    assert by_name["twice"]["factor"] == 2
    assert by_name["stream"]["read"] == "all before it"
    assert by_name["difffs default"]["read"] == "a page and its base"
    assert by_name["difffs identical-only"]["read"] == "a page"
    assert len(section.plots) == 1
    check_plots(section)
    check_cells(section)


def test_one_that_fails_on_a_corpus_is_absent_there_alone(section: Section) -> None:
    assert section.absent == [
        "nowhere: this kernel has none",
        "fussy on different: it holds all images in memory, and these are too many",
    ]
    rows = section.table("peers").rows
    assert [row["corpus"] for row in rows if row["peer"] == "fussy"] == ["alike"]


def test_recipes_have_the_figures_of_imports(section: Section, context: Context) -> None:
    table = section.table("peers")
    for corpus in context.corpora:
        factors = [
            table.value("factor", corpus=corpus.name, peer=f"difffs {name}")
            for name in ("default", "fast", "identical-only")
        ]
        assert factors == sorted(factors, key=lambda value: -float(value or 0))
        for row in table.rows:
            if row["corpus"] == corpus.name:
                stored, factor = row["stored"], row["factor"]
                assert isinstance(stored, int)
                assert isinstance(factor, float)
                assert stored * factor == pytest.approx(corpus.bytes, rel=1e-3)


def test_the_verdict_is_on_the_best_of_each_class(section: Section) -> None:
    verdict = section.table("peer_classes")
    default = section.table("peers").value("factor", corpus="alike", peer="difffs default")
    assert isinstance(default, float)
    rows = [row for row in verdict.rows if row["corpus"] == "alike"]
    assert [(row["class"], row["peer"]) for row in rows] == [
        ("the kernel's stores in memory", "fussy"),
        ("the file systems that compress", "blocks"),
        ("the streams without random access", "stream"),
    ]
    for row, of in zip(rows, (3, 2, 500), strict=True):
        assert row["over"] == pytest.approx(default / of, rel=1e-2)
    other = [row["peer"] for row in verdict.rows if row["corpus"] == "different"]
    assert other == ["twice", "blocks", "stream"]


def test_the_conclusion_says_what_the_figures_say(section: Section) -> None:
    check_words(section, findings=2)
    told = section.conclusion
    assert told.startswith("difffs default reaches a factor of ")
    assert ". Against the best of the kernel's stores in memory, default has " in told
    assert "; against the best of the file systems that compress, default has " in told
    assert told.count(": ahead on every corpus; ") == 2
    assert "; against the best of the streams without random access, default has " in told
    assert told.endswith(": not ahead.")
    alike, different = section.findings
    assert alike.startswith("On alike, difffs default reaches a factor of")
    assert "of the kernel's stores in memory the best is fussy (3.00 in 1.5 s)" in alike
    assert "of the kernel's stores in memory the best is twice (2.00 in 1.5 s)" in different
    assert "of the file systems that compress it is blocks (2.00 in 1.5 s)" in different


@pytest.mark.usefixtures("made_up_peers")
def test_several_recipes_are_judged_in_one_paragraph(context: Context) -> None:
    section = peers.run(context)
    check_words(section, findings=2)
    told = section.conclusion
    assert told.startswith("difffs default reaches a factor of ")
    assert " s and difffs dense " in told.partition(". ")[0]
    assert told.count("Against the best of ") + told.count("; against the best of ") == 3
    assert told.endswith(" times: not ahead.")
    assert all(" and difffs dense reaches a factor of " in one for one in section.findings)


def test_recipes_that_stand_differently_are_told_apart(section: Section) -> None:
    verdict = section.table("peer_classes")
    title = peers._CLASSES[peers._MEMORY]
    rows = [
        {**row, "recipe": f"difffs {recipe}", "over": over}
        for recipe, by_corpus in (("default", (0.9, 1.1)), ("dense", (1.2, 1.3)))
        for row, over in zip(verdict.select(**{"class": title}), by_corpus, strict=True)
    ]
    assert peers._about_class(replace(verdict, rows=rows), title) == (
        "against the best of the kernel's stores in memory, default has 0.90 to 1.10 times the"
        " factor (ahead on different only) and dense 1.20 to 1.30 times (ahead on every corpus)"
    )


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (1.01, ": ahead."),
        (900, ": not ahead."),
    ],
)
def test_the_judgement_follows_the_factors(
    of: float, said: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "FINDERS", (finder(made_up("one", of)),))
    section = peers.run(replace(context, corpora=context.corpora[:1]))
    check_words(section, findings=1)
    assert section.conclusion.endswith(said)


def test_a_corpus_on_which_nothing_could_be_run_is_named(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = [image.sha256 for image in context.corpora[1].images]
    fussy = made_up("fussy", 3, parameters={"refuses": refuses})
    monkeypatch.setattr(peers, "FINDERS", (finder(fussy),))
    section = peers.run(context)
    check_words(section, findings=2)
    assert section.findings[1] == "On different, none of the peers could be run."
    assert section.conclusion.endswith(": ahead.")


def test_figures_of_a_kind_have_a_table_of_their_own(section: Section) -> None:
    assert [table.name for table in section.tables] == ["peers", "peer_classes", "ksm_figures"]
    row = section.table("ksm_figures").rows[0]
    assert (row["peer"], row["pages_sharing"], row["ksm_zero_pages"]) == ("merged", 50, 14)
    assert row["own_data"] == 9000


def test_a_dense_recipe_is_judged_as_well(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "FINDERS", (finder(made_up("twice", 2)),))
    section = peers.run(replace(context, corpora=context.corpora[:1]))
    judged = [row["recipe"] for row in section.table("peer_classes").rows]
    assert judged == ["difffs default", "difffs dense"]
    check_words(section, findings=1)
    assert "difffs default reaches a factor of" in section.conclusion
    assert " s and difffs dense " in section.conclusion
    assert " times the factor and dense " in section.conclusion
    assert " and difffs dense reaches a factor of" in section.findings[0]


def test_a_host_without_peers(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "FINDERS", (lambda: absent("zram", "this kernel has no zram"),))
    section = peers.run(context)
    assert [table.name for table in section.tables] == ["peers"]
    assert section.absent == ["zram: this kernel has no zram"]
    assert section.conclusion == "None of the peers could be run on this host."
    assert section.findings == []


def test_classes() -> None:
    """Of the peers as they are: what they say of themselves puts each where it belongs."""
    assert peers.class_of(made_up("any", 1)) == peers._MEMORY
    expected = {
        ksm: peers._MEMORY,
        zram: peers._MEMORY,
        btrfs: peers._FILES,
        squashfs: peers._FILES,
        whole_archive: peers._STREAM,
    }
    for module, kind in expected.items():
        for peer in module.find().peers:
            assert peers.class_of(peer) == kind, peer.name


@pytest.mark.integration
@pytest.mark.usefixtures("host_as_before")
def test_peers_of_this_host_really_run(context: Context) -> None:
    found = [find() for find in peers.FINDERS]
    if not any(one.peers for one in found):
        pytest.skip("; ".join(line for one in found for line in one.absent))
    alike = replace(context, corpora=context.corpora[:1])
    section = peers.run(alike)
    measured = {str(row["peer"]) for row in section.table("peers").rows}
    missing = {line.partition(" on alike: ")[0] for line in section.absent}
    for peer in (peer for one in found for peer in one.peers):
        assert (peer.name in measured) != (peer.name in missing), peer.name
    for row in section.table("peers").rows:
        stored = row["stored"]
        assert isinstance(stored, int)
        # no room for less than what is different, nor for more than all with the peer's own data
        assert 0.02 * alike.corpora[0].bytes < stored < 1.2 * alike.corpora[0].bytes, row
    check_words(section, findings=1)
    check_cells(section)
