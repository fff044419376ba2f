"""Passes in this process, against those in processes of their own."""

from pathlib import Path

from difffs.study.cache import Cache
from difffs.study.corpus import Corpus
from difffs.study.executors.here import ThisProcess
from difffs.study.executors.processes import Processes
from difffs.study.passes import Pass
from difffs.study.sharing import DIGEST_PASS_VERSION, digest_pass
from tests.study.times_apart import results_of


def test_results_are_those_of_processes(
    corpora: list[Corpus], tmp_path: Path, scratch_folder: Path
) -> None:
    passes = [
        Pass("digests", DIGEST_PASS_VERSION, digest_pass, (image,)) for image in corpora[0].images
    ]
    for executor in (ThisProcess(), Processes(2)):
        cache = Cache(tmp_path / type(executor).__name__)
        told: list[Pass] = []
        executor.run(passes, cache, scratch_folder, told.append)
        assert sorted(work.key for work in told) == sorted(work.key for work in passes)
        assert executor.machines() == []
    assert list(scratch_folder.iterdir()) == []
    first, second = (results_of(folder) for folder in tmp_path.iterdir())
    assert len(first) == 4, "of each image JSON, and an array"
    assert first == second
