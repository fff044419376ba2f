"""Training a store's zstd dictionary from the pages that come first."""

from difffs._kernels import train_dictionary
from difffs.page import PAGE_SIZE

SAMPLES = 1024
"""Pages that a dictionary is trained from (4 MiB, held only until then)."""

_EVERY = 8
"""One compressed page in so many is a sample, so that they span the first 32 MiB."""


class DictionaryTrainer:
    """Collects samples; `train` gives the dictionary once there are enough."""

    def __init__(self, capacity: int, level: int) -> None:
        """`capacity` bytes at most, for that zstd level."""
        self._capacity = capacity
        self._level = level
        self._samples = bytearray()
        self._seen = 0

    def add(self, pages: memoryview, compressed: list[int]) -> None:
        """Takes its share of the pages (indices into `pages`) that were compressed."""
        for index in compressed:
            if self._seen % _EVERY == 0:
                self._samples += pages[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
            self._seen += 1

    @property
    def ready(self) -> bool:
        """Whether there are enough samples."""
        return len(self._samples) >= SAMPLES * PAGE_SIZE

    def train(self) -> bytes | None:
        """The dictionary, or None when the samples have nothing in common; drops the samples."""
        samples, self._samples = self._samples, bytearray()
        return train_dictionary(samples, self._capacity, self._level)
