"""Suspends and resumes guests whose RAM is a file in a mount: see ``scripts/suspend-resume``."""
