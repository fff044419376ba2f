"""A sample of the trials of damage, and that they can fail."""

from pathlib import Path
from random import Random

import pytest

from difffs.store import Store
from tests.endurance.damage import at_rest
from tests.endurance.damage.aged_store import AgedStore, make
from tests.endurance.damage.damages import damage
from tests.endurance.damage.trials import Trials
from tests.integration.harness import obstacle
from tests.stores import scratch

PAGE = 4096


@pytest.fixture(scope="module")
def aged() -> AgedStore:
    with scratch() as folder:
        return make(folder / "store", 3)


@pytest.mark.slow
def test_a_sample_at_rest(tmp_path: Path) -> None:
    trials = Trials(7, tmp_path, print)
    trials.run(0, 30, mounted=0)
    assert trials.totals.failures == []
    assert trials.totals.outcomes.keys() <= {"right", "found", "unread"}
    assert trials.totals.trials == 30


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.integration
def test_a_mounted_one(tmp_path: Path) -> None:
    if (reason := obstacle()) is not None:
        pytest.skip(reason)
    trials = Trials(8, tmp_path, print)
    trials.run(0, 1, mounted=1)
    assert trials.totals.failures == []
    assert trials.totals.trials == 1
    assert all(name.endswith("mounted") for name in trials.totals.outcomes)


def test_the_same_trial_does_the_same_damage(aged: AgedStore) -> None:
    told = []
    for _ in range(2):
        with scratch() as folder:
            aged.put(folder / "store")
            how = damage(Random("1/5"), folder / "store", aged)
            changed = {
                path.relative_to(folder): path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
            told.append((how, changed))
    assert told[0] == told[1]


def test_another_page_is_noticed(aged: AgedStore) -> None:
    """The judge is right: a store with other contents than it should have is wrong."""
    with scratch() as folder:
        aged.put(folder / "store")
        assert at_rest.judge(folder / "store", aged, Random(1)) == "right"
        path, content = next(iter(aged.contents.items()))
        other = AgedStore(aged.now, aged.before, dict(aged.contents), aged.pasts)
        place = next(at for at, byte in enumerate(content) if byte)
        other.contents[path] = content[:place] + b"\1\2" + content[place + 2 :]
        with pytest.raises(at_rest.Wrong):
            at_rest.judge(folder / "store", other, Random(1))


def test_a_trial_that_dies_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_arguments: object) -> str:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        return "right"

    monkeypatch.setattr(at_rest, "judge", die)
    trials = Trials(9, tmp_path, print)
    trials.run(0, 1, mounted=0)
    (failure,) = trials.totals.failures
    assert "ended by signal 9" in failure
    assert (tmp_path / "seed-9-trial-0" / "how").exists()


def test_the_store_has_a_past(aged: AgedStore) -> None:
    with scratch() as folder:
        aged.put(folder / "store")
        with Store.open(folder / "store", read_only=True) as store:
            paths = {store.namespace.path(each.number) for each in store.namespace.volumes()}
    assert paths == set(aged.contents)
    assert len(aged.before) == 4
