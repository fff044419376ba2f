"""The FUSE mount: one directory of volumes over a store.

``operations`` says what each file operation does and knows no FUSE; ``binding`` speaks to
libfuse3; ``kernel_tuning`` asks the kernel for what a memory store needs; ``daemon`` ties them
to a store, a mount point and the signals. ``table`` knows what is mounted where, ``live`` asks a
mount that there is, ``flags`` and ``remount`` change one, ``unmount`` takes it away.
"""
