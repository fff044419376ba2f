"""The questions of the study, one module each, with NUMBER, NAME, TITLE and run(context)."""

SECTIONS = {
    1: "mechanisms",
    2: "patchers",
    3: "positions",
    4: "transforms",
    5: "similarity",
    6: "live",
    7: "peers",
    8: "refining",
}
"""Number -> module; imported when its question is asked."""
