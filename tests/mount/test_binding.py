"""The names of mfusepy that binding.py leans on without being promised them.

A missing one would show in a mount only, as a callback that is never called or is called with the
wrong arguments.
"""

import ctypes
import inspect
from typing import Any

import pytest

from difffs.mount import binding

_mfusepy: Any = pytest.importorskip("mfusepy", exc_type=ImportError)

OVERRIDDEN = {
    name: method
    for name, method in vars(binding._Session).items()
    if inspect.isfunction(method) and not name.startswith("__")
}
STRUCTURE = dict(_mfusepy.fuse_operations._fields_)


def test_something_is_overridden() -> None:
    assert {"_wrapper", "truncate_fuse_3", "lseek"} <= OVERRIDDEN.keys()


@pytest.mark.parametrize("name", sorted(OVERRIDDEN))
def test_what_the_session_overrides_is_mfusepys(name: str) -> None:
    """Same number of arguments as its own method; what it has none for is called by its name."""
    ours = inspect.signature(OVERRIDDEN[name])
    theirs = getattr(_mfusepy.FUSE, name, None)
    if theirs is not None:
        kinds = [
            inspect.signature(method).parameters.values() for method in (OVERRIDDEN[name], theirs)
        ]
        positional = [
            [one for one in of if one.kind is not inspect.Parameter.VAR_KEYWORD] for of in kinds
        ]
        assert len(positional[0]) == len(positional[1])
        return
    assert name in STRUCTURE
    assert len(ours.parameters) - 1 == len(STRUCTURE[name]._argtypes_)


@pytest.mark.parametrize("name", sorted(OVERRIDDEN.keys() - {"_wrapper"}))
def test_overridden_callbacks_have_the_arguments_of_the_structure(name: str) -> None:
    field = STRUCTURE[name.removesuffix("_fuse_3")]
    assert len(inspect.signature(OVERRIDDEN[name]).parameters) - 1 == len(field._argtypes_)


def test_the_constructor_calls_main_by_its_global_name() -> None:
    """Which is what lets the native callback for reads be put in."""
    assert callable(_mfusepy.fuse_main_real)
    assert "fuse_main_real" in _mfusepy.FUSE.__init__.__code__.co_names
    assert "_wrapper" in _mfusepy.FUSE.__init__.__code__.co_names


def test_the_structures_of_libfuse() -> None:
    assert len(STRUCTURE["read"]._argtypes_) == 5
    assert _mfusepy.fuse_file_info.fh.size == ctypes.sizeof(ctypes.c_uint64)
    assert isinstance(_mfusepy.fuse_version_major, int)
    assert isinstance(_mfusepy.fuse_version_minor, int)
    assert callable(_mfusepy.fuse_get_context)
    attributes = [name for name, *_ in _mfusepy.c_utimbuf._fields_]
    assert attributes == ["actime", "modtime"]
