# cython: language_level=3
# cython: freethreading_compatible=False
"""libfuse's read callback: what PageReader can answer never becomes a call of Python functions.

A third of what a read of one page takes through ctypes is converting arguments and calling; see
docs/adr/0008-native-read-callback.md.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

ctypedef int (*callback_type)(const char *, char *, size_t, int64_t, char *) noexcept

cdef object read_short       # (inode, offset, size, address) -> whether it has filled the buffer
cdef dict volumes            # handle -> inode of an open volume
cdef object read_long        # (path, address, size, offset, handle) -> bytes read, or -errno
cdef object failed           # (exception) -> -errno
cdef size_t handle_position  # of the handle in libfuse's struct fuse_file_info


cdef int read(const char *path, char *buffer, size_t size, int64_t offset,
              char *info) noexcept with gil:
    """Nothing may escape into libfuse's C frames; `read_long` and `failed` let nothing escape."""
    cdef uint64_t handle = (<uint64_t *>(info + handle_position))[0]
    try:
        inode = volumes.get(handle)
        if inode is not None and read_short(inode, offset, size, <size_t>buffer):
            return <int>size
    except BaseException as error:
        return failed(error)
    return read_long(None if path == NULL else <bytes>path, <size_t>buffer, size, offset, handle)


def install(short_way, dict inodes not None, long_way, failure, size_t position):
    """Sets whom the callback asks. Returns its address. One mount a process."""
    global read_short, volumes, read_long, failed, handle_position
    read_short = short_way
    volumes = inodes
    read_long = long_way
    failed = failure
    handle_position = position
    cdef callback_type callback = read
    return <size_t>callback
