"""What a medium may hold after a power cut: of hand-made records, all states that there are."""

from pathlib import Path
from random import Random
from shutil import rmtree

from tests.endurance.medium import BLOCK, Medium
from tests.endurance.record import Event, Kind


def event(
    kind: Kind,
    number: int = 1,
    offset: int = 0,
    length: int = 0,
    flags: int = 0,
    name: str = "",
    data: bytes = b"",
) -> Event:
    return Event(kind, number, offset, length, flags, name, data)


ONE, TWO, THREE = (bytes([value]) * BLOCK for value in (1, 2, 3))
CREATED = event(Kind.CREATED, name="payloads")
MADE = (event(Kind.DIRECTORY_MADE), CREATED, event(Kind.DIRECTORY_SYNCED))


def write(data: bytes, offset: int = 0, flags: int = 0) -> Event:
    return event(Kind.WRITTEN, offset=offset, data=data, flags=flags)


def sync(number: int = 1) -> tuple[Event, Event]:
    return event(Kind.SYNC_BEGAN, length=number), event(Kind.SYNC_ENDED, length=number)


def states(tmp_path: Path, *events: Event, how: str = "any", tries: int = 60) -> set[bytes | None]:
    """Contents of `payloads` that may be left; None where there is no such file."""
    medium = Medium(tmp_path / "nothing")
    for each in events:
        medium.play(each)
    found: set[bytes | None] = set()
    for seed in range(tries):
        folder = tmp_path / f"state-{seed}"
        medium.build(folder, Random(seed), {"": how})
        path = folder / "payloads"
        found.add(path.read_bytes() if path.exists() else None)
        rmtree(folder, ignore_errors=True)
    return found


def test_what_is_not_synchronised_is_there_or_not(tmp_path: Path) -> None:
    found = states(tmp_path, *MADE, write(ONE))
    assert found == {b"", bytes(BLOCK), ONE}  # the size may be there without the bytes


def test_what_is_synchronised_is_there(tmp_path: Path) -> None:
    assert states(tmp_path, *MADE, write(ONE), *sync()) == {ONE}


def test_what_comes_later_may_be_there_too(tmp_path: Path) -> None:
    found = states(tmp_path, *MADE, write(ONE), *sync(), write(TWO), write(THREE))
    assert found == {ONE, TWO, THREE}


def test_a_write_during_the_call_is_not_covered(tmp_path: Path) -> None:
    began, ended = sync()
    found = states(tmp_path, *MADE, write(ONE), began, write(TWO), ended)
    assert found == {ONE, TWO}


def test_of_two_calls_at_once_each_covers_what_came_before_it(tmp_path: Path) -> None:
    first, second = sync(1), sync(2)
    events = (write(ONE), first[0], write(TWO), second[0], write(THREE), first[1])
    assert states(tmp_path, *MADE, *events) == {ONE, TWO, THREE}
    assert states(tmp_path, *MADE, *events, second[1]) == {TWO, THREE}


def test_blocks_come_in_any_order(tmp_path: Path) -> None:
    old, new = ONE + ONE, TWO + TWO
    found = states(tmp_path, *MADE, write(old), *sync(), write(new))
    assert found == {old, new, ONE + TWO, TWO + ONE}


def test_torn_blocks_are_cut_at_sectors(tmp_path: Path) -> None:
    found = states(tmp_path, *MADE, write(ONE), *sync(), write(TWO), how="torn", tries=300)
    torn = [each for each in found if each and each not in (ONE, TWO)]
    assert len(torn) >= 10
    for each in torn:
        cut = next(at for at in range(BLOCK) if each[at] != each[0])
        assert cut % 512 == 0
        assert len(set(each[cut:])) == 1


def test_a_punch_may_be_there_before_anything_later(tmp_path: Path) -> None:
    punch = event(Kind.PUNCHED, length=BLOCK)
    assert states(tmp_path, *MADE, write(ONE), *sync(), punch) == {ONE, bytes(BLOCK)}
    assert states(tmp_path, *MADE, write(ONE), *sync(), punch, *sync(2)) == {bytes(BLOCK)}


def test_a_durable_write_covers_itself_and_nothing_else(tmp_path: Path) -> None:
    old = ONE + ONE
    events = (*MADE, write(old), *sync(), write(TWO, BLOCK), write(THREE, 0, flags=1))
    assert states(tmp_path, *events) == {THREE + ONE, THREE + TWO}


def test_after_a_failed_call_no_later_one_is_believed(tmp_path: Path) -> None:
    """The kernel takes the pages for clean and does not write them again."""
    failed = event(Kind.SYNC_FAILED)
    events = (*MADE, write(ONE), *sync(), write(TWO), failed, *sync(2))
    assert states(tmp_path, *events) == {ONE, TWO}
    assert states(tmp_path, *events, write(THREE), *sync(3)) == {THREE}


def test_a_name_is_there_once_its_directory_is_synchronised(tmp_path: Path) -> None:
    assert None in states(tmp_path, MADE[0], CREATED)
    assert None not in states(tmp_path, *MADE)


def test_a_file_that_takes_anothers_name(tmp_path: Path) -> None:
    events = (
        *MADE,
        write(ONE),
        *sync(),
        event(Kind.CREATED, 2, name="payloads.new"),
        event(Kind.WRITTEN, 2, data=TWO),
    )
    taken = event(Kind.RENAMED, name="payloads.new", data=b"payloads")
    durable = (event(Kind.SYNC_BEGAN, 2, length=9), event(Kind.SYNC_ENDED, 2, length=9))
    assert states(tmp_path, *events, taken) == {ONE, b"", bytes(BLOCK), TWO}
    assert states(tmp_path, *events, *durable, taken) == {ONE, TWO}


def test_mapped_files_are_of_any_age(tmp_path: Path) -> None:
    mapped = [event(Kind.MAPPED_STATE, data=data) for data in (ONE, TWO, THREE)]
    found = states(tmp_path, *MADE, write(bytes(BLOCK)), *sync(), *mapped)
    assert found == {bytes(BLOCK), ONE, TWO, THREE}
    assert states(tmp_path, *MADE, write(ONE), *sync(), *mapped, *sync(2)) == {THREE}
