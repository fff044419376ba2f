"""Real guests, a memory-hungry process and fio, driven against a difffs mount.

Used by ``scripts/demo`` and by the integration tests; no part of the installed product.
"""
