"""Fuzzing of the readers of memory images, and of what reads them back out of a damaged store."""
