"""Memory images in a store: a skeleton volume, a memory volume, and the file that they make up.

``assembly`` takes down what a reader of a format tells (``difffs.images``): memory goes
page by page into a volume of its own, where it is shared and patched like all memory; everything
else, and the rows that say how the file is made up, go into the skeleton. ``reading`` gives the
file back, byte for byte. docs/store-format.md ("Images") has the layout.

Pages that the stream of a live migration brings again are the one difficulty: the memory is to hold
what came last, and the file all of them. Later ones go to the skeleton at first; at the end they
take the place of the earlier ones, which move there.
"""
