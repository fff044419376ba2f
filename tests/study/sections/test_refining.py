"""Section 8 on the small corpora, with streams made up, and with those that this host has."""

from dataclasses import replace

import pytest

from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.study.context import Context
from difffs.study.importing import import_pass
from difffs.study.peers import whole_archive
from difffs.study.peers.peer import Found, Peer
from difffs.study.result import Cell, Section, Table
from difffs.study.sections import refining
from difffs.study.word_transforms import ENCODINGS, PLAIN, SMALLEST, TRANSFORMS
from tests.study.passes import halves
from tests.study.sections.section_checks import (
    check_cells,
    check_corpora,
    check_plots,
    check_words,
    numbers,
)

CORPORA = ("alike", "different")
STATES = ("default, as stored", "cold", "rest")


def stream(name: str, of: float, refuses: list[str] | None = None) -> Peer:
    """A stream that takes a page for each `of` pages."""
    parameters = {"of": of, "refuses": refuses or []}
    return Peer(name, f"made up {name}", 1, halves, parameters, read="all before it")


@pytest.fixture
def streams(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two, the denser one of which fails on the corpus `different`, and one that is absent."""
    refuses = [image.sha256 for image in context.corpora[1].images]
    found = Found([stream("loose", 5), stream("dense", 500, refuses)], ["xz: no xz"])
    monkeypatch.setattr(whole_archive, "find_bounds", lambda: found)


@pytest.fixture
def section(context: Context, streams: None) -> Section:
    return refining.run(context)


def test_words_plots_and_cells(section: Section) -> None:
    check_words(section, findings=len(CORPORA))
    assert section.conclusion.startswith("Refining to cold takes ")
    for corpus, finding in zip(CORPORA, section.findings, strict=True):
        assert finding.startswith(f"On {corpus}, the factor of ")
    assert len(section.plots) == 3
    check_plots(section)
    check_corpora(section, CORPORA)


def test_each_state_and_stream_has_a_row(section: Section) -> None:
    table = section.table("refining")
    kept = {c: [row["kept"] for row in table.select(corpus=c)] for c in CORPORA}
    assert kept == {"alike": [*STATES, "loose", "dense"], "different": [*STATES, "loose"]}
    assert section.absent == [
        "xz: no xz",
        "dense on different: it holds all images in memory, and these are too many",
    ]
    for row in table.rows:
        parts = [row["payload"], row["metadata"], row["slack"]]
        if row["kept"] in STATES:
            assert row["stored"] == sum(part for part in parts if isinstance(part, int))
        else:
            assert parts == [None] * 3
            assert row["rate"] is None


def test_as_stored_is_an_import_with_default(section: Section, context: Context) -> None:
    """The same figures as in section 1."""
    passes = [import_pass(corpus.images, RECIPES["default"]) for corpus in context.corpora]
    for corpus, result in zip(context.corpora, context.results(passes), strict=True):
        (row,) = section.table("refining").select(corpus=corpus.name, kept=STATES[0])
        for key in ("stored", "payload", "metadata", "slack"):
            assert row[key] == result["bytes"][key]
        assert row["factor"] == result["factor"]
        assert row["members"] == row["groups"] == 0


def test_tiers_are_denser_and_most_pages_are_in_groups(section: Section) -> None:
    table = section.table("refining")
    for corpus in CORPORA:
        plain, cold, rest = numbers(table, "factor", corpus=corpus)[:3]
        assert plain < cold < rest
        for tier, most in (("cold", 16), ("rest", 64)):
            (row,) = table.select(corpus=corpus, kept=tier)
            (members,) = numbers(table, "members", corpus=corpus, kept=tier)
            (groups,) = numbers(table, "groups", corpus=corpus, kept=tier)
            assert 1 < members / groups <= most
            (share,) = numbers(table, "members_share", corpus=corpus, kept=tier)
            assert 0.5 < share <= 1
            seconds, rate = row["seconds"], row["rate"]
            assert isinstance(seconds, float)
            assert isinstance(rate, float)
            assert seconds * rate >= members


def test_savings_are_made_of_stored_bytes(section: Section) -> None:
    saving, sizes = section.table("refining_saving"), section.table("refining")
    for corpus in CORPORA:
        plain, cold, rest = numbers(sizes, "stored", corpus=corpus)[:3]
        assert saving.value("by_cold", corpus=corpus) == pytest.approx(1 - cold / plain)
        assert saving.value("by_rest", corpus=corpus) == pytest.approx(1 - rest / plain)
    (of_rest,) = numbers(sizes, "factor", corpus="alike", kept="rest")
    (row,) = saving.select(corpus="alike")
    assert row["stream"] == "dense"
    assert row["stream_factor"] == pytest.approx(500, rel=0.01)
    assert row["over"] == pytest.approx(of_rest / 500, rel=0.01)
    assert saving.value("stream", corpus="different") == "loose"


def test_reads_are_of_the_same_sample_in_each_state(section: Section, context: Context) -> None:
    table = section.table("refining_reads")
    assert [row["kept"] for row in table.rows] == [*STATES, *STATES]
    assert set(numbers(table, "pages")) == {context.sample}
    for row in table.rows:
        mean, most = row["mean"], row["p99"]
        assert isinstance(mean, float)
        assert isinstance(most, float)
        assert 0 < mean < most * 100
        assert (row["decoded"] is None) == (row["kept"] == STATES[0])
    assert min(numbers(table, "decoded", kept="cold")) > 0


def test_what_has_no_page_to_read_is_not_told(context: Context, streams: None) -> None:
    """As of images of zeros alone, and of fewer pages than a group has."""
    context = replace(context, corpora=context.corpora[:1])
    of_alike = refining._stores(context)["alike"]
    empty = {
        tier: {**result, "decode_us": [], "in_order": {"pages": 9, "asked": 0, "decoded": 0}}
        for tier, result in of_alike.items()
    }
    assert refining._read_table({"alike": empty}).rows == []
    assert refining._word_table({"alike": {"pages": 0, "bytes": {}}}).rows == []
    section = refining.run(context)
    some = {t.name: t for t in section.tables if t.name in ("refining", "refining_saving")}
    told, finding = refining._conclusion(some), refining._finding("alike", some)
    less = replace(section, tables=list(some.values()), conclusion=told, findings=[finding])
    check_words(less, findings=1)
    for text in (told, finding):
        assert " us" not in text
        assert "XOR" not in text
    assert [plot.name for plot in refining._plots(some)] == ["refining"]


def test_a_host_without_streams(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Found([], ["xz: no xz", "zstd: no zstd"])
    monkeypatch.setattr(whole_archive, "find_bounds", lambda: absent)
    section = refining.run(context)
    check_words(section, findings=len(CORPORA))
    check_cells(section)
    assert section.absent == ["xz: no xz", "zstd: no zstd"]
    assert "stream" not in section.conclusion
    assert not any("stream" in finding for finding in section.findings)


# ------------------------------------------------------------------------------------------ words


def test_every_transform_has_bytes_a_page(section: Section) -> None:
    table = section.table("refining_words")
    for corpus in CORPORA:
        rows = table.select(corpus=corpus)
        assert [row["transform"] for row in rows] == [*TRANSFORMS, SMALLEST]
        for encoding in ENCODINGS:
            *each, smallest = numbers(table, encoding, corpus=corpus)
            assert smallest <= min(each)
            assert max(each) <= PAGE_SIZE


def word_table(sizes: dict[str, tuple[float, float, float]]) -> Table:
    """Of mean bytes plain, as the best transform and as the others, by corpus."""
    names = [name for name in TRANSFORMS if name != PLAIN]
    words: dict[str, dict[str, Cell | dict[str, dict[str, float]]]] = {}
    for corpus, (plain, best, others) in sizes.items():
        of_each = {PLAIN: plain, **dict.fromkeys(names, others), names[-1]: best}
        of_each[SMALLEST] = min(of_each.values())
        words[corpus] = {"pages": 1, "bytes": dict.fromkeys(ENCODINGS, of_each)}
    return refining._word_table(words)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (
            {"a": (1000, 1200, 1800), "b": (1100, 1300, 1900)},
            "do not make pages smaller: a page alone by zstd 1 takes 1,200.0 to 1,900.0 bytes"
            " against 1,000.0 to 1,100.0 plain, and 1,000.0 to 1,100.0 with the best of all for"
            " each.",
        ),
        ({"a": (1000, 900, 1800), "b": (1100, 1300, 1900)}, "make pages smaller on a only: "),
        ({"a": (1000, 900, 1800), "b": (1100, 900, 1900)}, "make pages smaller on every corpus: "),
        ({"a": (1000, 1000, 1000)}, "do not make pages smaller: "),
    ],
)
def test_the_judgement_of_words_follows_the_bytes(
    sizes: dict[str, tuple[float, float, float]], said: str
) -> None:
    told = refining._about_words(word_table(sizes))
    assert said in told
    assert told.startswith("Byte planes, differences and XOR of words before compression ")


# ---------------------------------------------------------------------------------- real streams


@pytest.mark.integration
def test_streams_of_this_host_really_bound_what_is_stored(context: Context) -> None:
    """A stream finds all that groups find, and more."""
    found = whole_archive.find_bounds()
    if not found.peers:
        pytest.skip("; ".join(found.absent))
    section = refining.run(replace(context, corpora=context.corpora[:1]))
    check_words(section, findings=1)
    table = section.table("refining")
    for peer in found.peers:
        (factor,) = numbers(table, "factor", kept=peer.name)
        (plain,) = numbers(table, "factor", kept=STATES[0])
        assert factor > plain
