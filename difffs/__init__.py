"""difffs: keeps memory pages in a fraction of their size, behind a file."""

__version__ = "0.1.0"
