"""Writes a guest's memory in every format that hypervisors know: see ``scripts/make-formats``."""
