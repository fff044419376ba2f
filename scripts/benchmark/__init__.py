"""The benchmark behind ``scripts/bench``: difffs and its peers, side by side on the same data.

Each part is a module of ``benchmark.parts`` with one function that measures rounds of all its
contenders in turn and returns a :class:`benchmark.result.Part`. Nothing of this is installed with
difffs.
"""
