"""Memory images as hypervisors and acquisition tools write them, one module a format.

A *reader* goes through an image once, front to back (:mod:`difffs.images.source`), and tells an
*assembly* (:mod:`difffs.images.assembly`) what each byte of it is: memory of the guest, or
something else. From that a store keeps the guest's pages as pages and still gives back the file,
byte for byte. Nothing here knows stores or mounts.
"""
