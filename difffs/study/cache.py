"""Results of passes on disk, named by what they were made from: a study goes on where it stopped.

A result's name is a hash of the pass, its version and parameters and the images' contents. Folders
filled on several hosts merge by copying their files together. A result is a JSON file, and for each
array in it a file beside that in numpy's format.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy

from difffs.errors import EnvironmentProblem
from difffs.standard_streams import output_problem
from difffs.study.corpus import Image
from difffs.study.stored_array import StoredArray

Result = dict[str, Any]
"""JSON values (str, int, float, bool, None, lists and dicts with str keys) and at the top arrays of
numpy, which come back as StoredArray."""

_ARRAYS = "$arrays"
"""The key under which a file of JSON lists which arrays there are."""


class Cache:
    """A folder of results; safe for several studies at once."""

    def __init__(self, folder: Path) -> None:
        """Make the folder; EnvironmentProblem when that fails."""
        self.folder = folder.absolute()  # for processes that are elsewhere
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentProblem(
                f"{folder} cannot be made: {error.strerror}; choose another with --cache"
            ) from None

    @staticmethod
    def key(
        name: str, version: int, images: Sequence[Image], parameters: Mapping[str, object]
    ) -> str:
        """Return the name of a result; images count by content and order, not by name."""
        parts = [name, version, [image.sha256 for image in images], parameters]
        text = json.dumps(parts, sort_keys=True, default=str)
        return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def get(self, key: str) -> Result | None:
        """Return a result, or None when it is not there; a damaged one counts as not there."""
        try:
            loaded = json.loads((self.folder / f"{key}.json").read_text())
            if not isinstance(loaded, dict):
                return None
            for name in loaded.pop(_ARRAYS, ()):
                loaded[name] = StoredArray.find(self._array_file(key, name))
        except (OSError, ValueError, TypeError):
            return None
        return loaded

    def require(self, key: str) -> Result:
        """Return a result that has been put there; EnvironmentProblem when it is gone."""
        result = self.get(key)
        if result is None:
            raise EnvironmentProblem(
                f"{self.folder} has lost {key}, made just now: leave the folder alone and try again"
            )
        return result

    def put(self, key: str, result: Result) -> None:
        """Keep a result: whole or not at all. OutputProblem when it cannot be written."""
        arrays = {name: one for name, one in result.items() if isinstance(one, numpy.ndarray)}
        plain = {name: one for name, one in result.items() if name not in arrays}
        if arrays:
            plain[_ARRAYS] = sorted(arrays)
        text = json.dumps(plain).encode()
        for name, array in arrays.items():
            write_array = partial(numpy.save, arr=array, allow_pickle=False)
            self._write(self._array_file(key, name), write_array)
        # last: as long as it is not there, the arrays are no result
        self._write(self.folder / f"{key}.json", lambda file: file.write(text))

    def _array_file(self, key: str, name: str) -> Path:
        return self.folder / f"{key}.{name.replace(' ', '-')}.npy"

    def _write(self, path: Path, write: Callable[[IO[bytes]], object]) -> None:
        try:
            # not mkstemp(): a shared folder's results may be for other users
            temporary = self.folder / f".new-{uuid.uuid4().hex}"
            try:
                with temporary.open("xb") as file:
                    write(file)
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise output_problem(str(self.folder), error) from None
