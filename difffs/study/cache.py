"""Results of passes on disk, named by what they were made from: a study goes on where it stopped.

A result's name is a hash of the pass, its version and parameters and the images' contents. Folders
filled on several hosts merge by copying their files together.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from difffs.errors import EnvironmentProblem
from difffs.standard_streams import output_problem
from difffs.study.corpus import Image

Result = dict[str, Any]
"""JSON values only: str, int, float, bool, None, lists and dicts with str keys."""


class Cache:
    """A folder of results; safe for several studies at once."""

    def __init__(self, folder: Path) -> None:
        """Make the folder; EnvironmentProblem when that fails."""
        self.folder = folder
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
        except (OSError, ValueError):
            return None
        return loaded if isinstance(loaded, dict) else None

    def put(self, key: str, result: Result) -> None:
        """Keep a result: whole or not at all. OutputProblem when it cannot be written."""
        try:
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".new-")
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(result, file)
                os.replace(temporary, self.folder / f"{key}.json")
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise output_problem(str(self.folder), error) from None
