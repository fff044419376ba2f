"""Records guests that run on a difffs mount: see ``scripts/record-guest``."""
