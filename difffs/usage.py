"""What one volume takes of a store."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """Pages of a volume, and the bytes that are kept for them."""

    pages: int = 0
    """Pages that are no holes."""
    zero: int = 0
    """Those of them that are zeros."""
    stored: float = 0.0
    """Bytes: each payload divided by the number of pages that refer to it, in all volumes, and the
    volume's page tables. What only patches need, other metadata and slack belong to no volume."""

    def __add__(self, other: "VolumeUsage") -> "VolumeUsage":
        """Both together."""
        return VolumeUsage(
            self.pages + other.pages, self.zero + other.zero, self.stored + other.stored
        )
