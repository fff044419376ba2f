"""Suites that others wrote, run against a mount; see ``scripts/outside-suites``."""
