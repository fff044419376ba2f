"""KSM: really merging."""

from pathlib import Path

import pytest

from difffs.errors import EnvironmentProblem
from difffs.page import PAGE_SIZE
from difffs.study.corpus import Corpus, Image
from difffs.study.peers import ksm
from tests.study.peers.conftest import variants

# of Linux 6.18
KSM_STAT = """\
ksm_rmap_items 196608
ksm_zero_pages 25988
ksm_merging_pages 35207
ksm_process_profit 239083520
ksm_merge_any: no
ksm_mergeable: yes
"""


def test_own_figures_are_told_from_words() -> None:
    found = ksm.own_figures(KSM_STAT)
    assert found["ksm_zero_pages"] == 25988
    assert found["ksm_merging_pages"] == 35207
    assert "ksm_mergeable" not in found


def different_pages(corpus: Corpus) -> set[bytes]:
    """The pages of a corpus that are not zero, each once."""
    pages = set()
    for image in corpus.images:
        content = image.path.read_bytes()
        pages |= {content[i : i + PAGE_SIZE] for i in range(0, len(content), PAGE_SIZE)}
    return pages - {bytes(PAGE_SIZE)}


@pytest.mark.integration
@pytest.mark.usefixtures("host_as_before")
def test_identical_pages_are_merged_and_no_others(corpora: list[Corpus], tmp_path: Path) -> None:
    peer = variants(ksm.find())[0]
    for corpus in corpora:
        try:
            found = peer.function(corpus.images, tmp_path, peer.parameters)
        except EnvironmentProblem as problem:
            if "other processes" in str(problem):  # a QEMU, say: it does so unless told otherwise
                pytest.skip(str(problem))
            raise
        merged = found["pages_sharing"] + found["ksm_zero_pages"] - found["others_zero"]
        kept = len(different_pages(corpus))
        assert kept <= corpus.pages - merged + found["others_merged"]
        assert kept >= corpus.pages - merged
        # its own data about each page is counted, too
        assert kept * PAGE_SIZE < found["stored"] < kept * PAGE_SIZE + 256 * corpus.pages


@pytest.mark.integration
@pytest.mark.usefixtures("host_as_before")
def test_settings_are_put_back_when_a_pass_fails(unreadable: Image, tmp_path: Path) -> None:
    peer = variants(ksm.find())[0]
    with pytest.raises(FileNotFoundError):
        peer.function([unreadable], tmp_path, peer.parameters)


def test_a_corpus_that_memory_should_not_hold_is_refused(tmp_path: Path) -> None:
    image = Image(tmp_path / "huge.mem", "huge", ksm.LIMIT // PAGE_SIZE + 1, "huge")
    with pytest.raises(EnvironmentProblem, match="holds all images"):
        ksm.measure([image], tmp_path, {})
