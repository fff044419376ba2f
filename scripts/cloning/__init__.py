"""Guests that go on from one suspended image: see ``scripts/clone-guest``."""
