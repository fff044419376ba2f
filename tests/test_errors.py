"""The errors' exit codes are an interface: scripts depend on them."""

import inspect

import pytest

from difffs import errors


def test_exit_codes_are_the_documented_ones() -> None:
    classes = {
        name: error
        for name, error in inspect.getmembers(errors, inspect.isclass)
        if issubclass(error, errors.DifffsError) and error is not errors.DifffsError
    }
    documented = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.split()
        if len(words) > 2 and words[0] in classes:
            documented[words[0]] = int(words[1])
    assert documented == {name: error.exit_code for name, error in classes.items()}


def test_text_is_one_line() -> None:
    assert str(errors.UsageError("a\nb\n")) == "a b"


def test_damaged_payload_is_a_corrupt_store() -> None:
    assert issubclass(errors.PayloadDamaged, errors.CorruptStore)
    assert errors.PayloadDamaged("x").exit_code == 6


def test_raising_a_kept_error_again_keeps_nothing_alive() -> None:
    """A store that has failed refuses every request with one error."""
    kept = errors.StoreFull("no room")

    def refuse() -> None:
        raise kept.again()

    for _ in range(100):
        with pytest.raises(errors.StoreFull):
            refuse()
    depth, trace = 0, kept.__traceback__
    while trace is not None:
        depth, trace = depth + 1, trace.tb_next
    assert depth < 5
