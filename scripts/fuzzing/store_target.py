"""Images of any format that a reader accepts, taken into a store and out of it again."""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from difffs.engine import Engine
from difffs.errors import ImageDamaged, UsageError
from difffs.images.source import Source
from difffs.page import MAXIMUM_VOLUME_SIZE
from difffs.store import Store
from difffs.stored_image.importing import remove_parts, store_image
from fuzzing.oracle import Violation
from fuzzing.outcomes import Outcome, Result
from fuzzing.short_form import expand
from fuzzing.targets import ReaderTarget

SCRATCH = "DIFFFS_FUZZ_SCRATCH"
"""Environment: the folder in which the store lies, which somebody removes."""
_MOST_REBUILT = "cannot be rebuilt"


@dataclass
class StoreTarget:
    """The first byte of an input chooses the reader, the rest is an image in the short form."""

    readers: list[ReaderTarget]
    name: str = "store"
    weight: float = 0.01
    _engine: Engine | None = field(default=None, repr=False)

    def seeds(self) -> list[bytes]:
        """Those of all readers."""
        return [
            bytes([number]) + data
            for number, reader in enumerate(self.readers)
            for data in reader.seeds()
        ]

    def prepare(self) -> None:
        """Makes the store."""
        folder = tempfile.mkdtemp(prefix="store-", dir=os.environ.get(SCRATCH))
        self._engine = Engine(Store.open_or_create(Path(folder) / "store"), 1)

    def close(self) -> None:
        """Closes it."""
        if self._engine is not None:
            self._engine.close()
            self._engine.store.close()
            self._engine = None

    def run(self, data: bytes) -> Result:
        """Stores the image, which is compared with what is rebuilt of it, and removes it."""
        if not data:
            return Outcome.NOT_ITS, ""
        reader = self.readers[data[0] % len(self.readers)]
        result = reader.run(data[1:])
        if result[0] is not Outcome.ACCEPTED:
            return result
        image = expand(data[1:], reader.longest)
        return self._store(reader, image), f"{reader.name} {result[1]}"

    def _store(self, reader: ReaderTarget, image: bytes) -> Outcome:
        engine = self._engine
        assert engine is not None

        def read_at(offset: int, count: int) -> bytes:
            return image[offset : offset + count]

        source = Source(iter([image] if image else []), size=len(image), read_at=read_at)
        try:
            assembly = store_image(engine, source, reader.form, 0o600)
        except (ImageDamaged, UsageError) as error:
            # What a store has no room for, a reader may accept.
            if _MOST_REBUILT in str(error):
                raise Violation(str(error)) from error
            return Outcome.ELSE
        with engine.store.lock:
            memory = assembly.memory_volume
            if memory.size > MAXIMUM_VOLUME_SIZE:
                raise Violation(f"memory of {memory.size:,} bytes")
        remove_parts(engine.store, assembly)
        while engine.store.remove_some():
            pass
        return Outcome.ACCEPTED
