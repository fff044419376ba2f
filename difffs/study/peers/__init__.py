"""What else keeps pages in less room: measured on the same images, by really using it.

Each module knows one peer: ``find()`` tells which variants of it this host can run and what it
lacks, and a pass writes the images of a corpus and asks the host what they occupy. Whatever a pass
changes on the host is put back, also when it fails or is interrupted.
"""
