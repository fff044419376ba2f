"""The model of files that crashes may change: what it allows, and what it does not."""

from random import Random

from tests.endurance.contents import page_of
from tests.endurance.model import PAGE, Acknowledged, FileModel, Model, differences


def page(number: int) -> bytes:
    return number.to_bytes(4, "little") * (PAGE // 4)


def file_with(*contents: bytes) -> FileModel:
    """One page, written by operations 1, 2, ..."""
    file = FileModel(1, 0, sizes=[(0, 0, 0)])
    for operation, content in enumerate(contents, 1):
        file.write(operation, 0, content)
    return file


def test_an_acknowledged_page_is_that_or_a_newer_one() -> None:
    file = file_with(page(1), page(2), page(3), page(4))
    found = [n for n in range(6) if not differences(file, "a", page(n), 2, 3)]
    assert found == [2, 3]


def test_a_mixture_of_two_contents_is_wrong() -> None:
    file = file_with(page(1), page(2))
    mixed = page(1)[:512] + page(2)[512:]
    assert differences(file, "a", mixed, 1, 2)
    assert not differences(file, "a", page(2), 1, 2)


def test_another_pages_bytes_are_wrong() -> None:
    file = file_with(page(1) + page(2))
    assert not differences(file, "a", page(1) + page(2), 1, 1)
    assert differences(file, "a", page(2) + page(1), 1, 1)
    assert "as it was at" not in differences(file, "a", page(2) + page(1), 1, 1)[0]


def test_zeros_in_place_of_acknowledged_bytes_are_wrong() -> None:
    assert "zeros" in differences(file_with(page(1)), "a", bytes(PAGE), 1, 1)[0]


def test_a_file_that_grows_may_be_found_on_the_way_and_not_beyond() -> None:
    file = file_with(page(1))
    file.write(2, PAGE, page(2) + page(3))
    for size, wrong in ((PAGE, False), (2 * PAGE, False), (3 * PAGE, False), (3 * PAGE + 1, True)):
        content = (page(1) + page(2) + page(3) + b"x")[:size]
        assert bool(differences(file, "a", content, 1, 2)) == wrong
    assert differences(file, "a", page(1), 2, 2), "acknowledged, and too short"


def test_what_was_cut_off_does_not_come_back_as_something_else() -> None:
    file = file_with(page(1) + page(2))
    file.truncate(2, 100)
    file.truncate(3, 2 * PAGE)
    assert file.content() == page(1)[:100].ljust(2 * PAGE, b"\0")
    assert not differences(file, "a", file.content(), 3, 3)
    assert differences(file, "a", page(1) + page(2), 3, 3)


def test_names_are_those_of_one_moment() -> None:
    model = Model(1)
    client = model.clients[0]
    one, two = (model.new_file(client, 0) for _ in range(2))
    client.names += [
        (1, {"c0-a": one.number}),
        (2, {"c0-a": one.number, "c0-b": two.number}),
        (3, {"c0-b": one.number}),
    ]
    one.write(1, 0, page(1))
    two.write(2, 0, page(2))
    known = Acknowledged({one.number: 1, two.number: 2}, {0: 2})
    assert not model.judge({"c0-a": page(1), "c0-b": page(2)}, known)
    assert not model.judge({"c0-b": page(1)}, known)
    assert model.judge({"c0-b": page(2)}, known)
    assert model.judge({"c0-a": page(1)}, known), "acknowledged names are there"
    assert model.judge({"c0-b": page(1)}, known, {0: 2}), "not yet renamed"
    assert Acknowledged.parse(b'{"files": [[1, 2]], "names": [[0, 3]]}').names == {0: 3}


def test_going_on_from_what_was_found() -> None:
    model = Model(2)
    found = {"c0-a": page(1), "directory/c1-d": page(2)[:100]}
    model.settle(found)
    assert not model.judge(found)
    assert model.judge({**found, "c0-a": page(3)})
    assert model.clients[1].files.keys().isdisjoint(model.clients[0].files)


def test_pages_of_clients_are_of_all_kinds_and_come_again() -> None:
    made = [page_of(Random(seed), 1, 2, seed) for seed in range(300)]
    assert {len(each) for each in made} == {PAGE}
    assert made == [page_of(Random(seed), 1, 2, seed) for seed in range(300)]
    assert bytes(PAGE) in made
    assert 200 < len(set(made)) < 300
