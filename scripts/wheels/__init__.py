"""``scripts/build-wheels``, ``scripts/test-wheel`` and ``scripts/compare-wheels``."""
