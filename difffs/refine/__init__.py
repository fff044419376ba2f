"""Refining: stored pages that rest are packed in groups of like ones, and stay readable one by one.

`tiers` says how dense, `window` which objects have their turn together, `refiner` does it.
"""
