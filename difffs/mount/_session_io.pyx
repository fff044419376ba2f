# cython: language_level=3
"""How libfuse reads requests and writes replies, with one answer put right.

When a file that was written loses its last name, the kernel first removes the name and then sends
the times that it has kept for the inode (SETATTR without a handle). libfuse has forgotten the node's
path by then and answers ESTALE without asking anybody; the kernel keeps that as an error of the file
system and reports it at the next syncfs, to whoever calls it. Nobody can ever see these times, so the
answer here is that they are set. (findings/fuse-sync-after-unlink.sh)

The functions are libfuse's `struct fuse_custom_io`; they hold no GIL. One thread serves the session.
"""
from libc.errno cimport ESTALE
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memset

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t writev(int file, const iovec *vector, int count)

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int file, void *buffer, size_t size)

# <linux/fuse.h>: the parts of a request and a reply that are looked at
cdef struct request_header:
    uint32_t length
    uint32_t opcode
    uint64_t unique
    uint64_t node
    uint32_t uid
    uint32_t gid
    uint32_t pid
    uint32_t padding
    uint32_t valid      # SETATTR's first word: what to set

cdef struct reply_header:
    uint32_t length
    int32_t error
    uint64_t unique

cdef enum:
    SETATTR = 4
    SETS_TIMES = 1 << 5 | 1 << 10  # FATTR_MTIME | FATTR_CTIME, and no FATTR_FH
    ATTRIBUTES_BYTES = 104         # struct fuse_attr_out, which the kernel does not look at here

cdef uint64_t times_of_nobody      # the request being answered, when it may be such a one


cdef ssize_t receive(int file, void *buffer, size_t size, void *_data) noexcept nogil:
    global times_of_nobody
    cdef ssize_t got = read(file, buffer, size)
    cdef request_header *header = <request_header *>buffer
    times_of_nobody = 0
    if (got >= <ssize_t>sizeof(request_header) and header.opcode == SETATTR and
            header.valid == SETS_TIMES):
        times_of_nobody = header.unique
    return got


cdef ssize_t send(int file, iovec *vector, int count, void *_data) noexcept nogil:
    cdef reply_header *header = <reply_header *>vector[0].iov_base
    cdef char attributes[ATTRIBUTES_BYTES]
    cdef reply_header answer
    cdef iovec parts[2]
    cdef ssize_t sent
    if (count != 1 or vector[0].iov_len != sizeof(reply_header) or header.error != -ESTALE or
            times_of_nobody == 0 or header.unique != times_of_nobody):
        return writev(file, vector, count)
    memset(attributes, 0, ATTRIBUTES_BYTES)
    answer.length = sizeof(reply_header) + ATTRIBUTES_BYTES
    answer.error = 0
    answer.unique = header.unique
    parts[0].iov_base = &answer
    parts[0].iov_len = sizeof(reply_header)
    parts[1].iov_base = attributes
    parts[1].iov_len = ATTRIBUTES_BYTES
    sent = writev(file, parts, 2)
    return <ssize_t>sizeof(reply_header) if sent > 0 else sent


def addresses():
    """(writev, read) for libfuse's `struct fuse_custom_io`."""
    return <size_t>&send, <size_t>&receive
