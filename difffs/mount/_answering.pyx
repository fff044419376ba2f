# cython: language_level=3
# cython: freethreading_compatible=False
"""Threads that answer the kernel without Python's lock, and how libfuse gets what is left.

See native/answering.h. libfuse reads its requests from a queue (`struct fuse_custom_io`), and one of
its answers is put right:

When a file that was written loses its last name, the kernel first removes the name and then sends
the times that it has kept for the inode (SETATTR without a handle). libfuse has forgotten the node's
path by then and answers ESTALE without asking anybody; the kernel keeps that as an error of the file
system and reports it at the next syncfs, to whoever calls it. Nobody can ever see these times, so the
answer here is that they are set. (findings/fuse-sync-after-unlink.sh)
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport ESTALE
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t writev(int file, const iovec *vector, int count)

cdef extern from "answering.h" nogil:
    enum: ANSWER_BYTES
    struct data_path:
        pass
    struct request_queue:
        pass
    cdef enum request_kind:
        REQUEST_ENDED
        REQUEST_READ
        REQUEST_WRITE
        REQUEST_SYNC
    struct answerer:
        uint8_t *answer
        uint64_t unique
        uint64_t handle
        uint64_t offset
        uint32_t size
        const uint8_t *data
    int request_queue_init(request_queue *queue)
    ssize_t request_queue_take(request_queue *queue, void *buffer, size_t size)
    void request_queue_end(request_queue *queue)
    int answerer_init(answerer *self, int file, const data_path *path, request_queue *others)
    void answerer_free(answerer *self)
    request_kind answerer_next(answerer *self)
    void answer_request(int file, uint64_t unique, int error, const void *data, size_t length)

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

READ = <int>REQUEST_READ
WRITE = <int>REQUEST_WRITE
SYNC = <int>REQUEST_SYNC

cdef request_queue others          # what libfuse is to answer; one mount a process
cdef uint64_t times_of_nobody      # the request that libfuse answers, when it may be such a one


cdef ssize_t receive(int _file, void *buffer, size_t size, void *_data) noexcept nogil:
    global times_of_nobody
    cdef ssize_t got = request_queue_take(&others, buffer, size)
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
    """(writev, read) for libfuse's `struct fuse_custom_io`; for one session."""
    if request_queue_init(&others):
        raise MemoryError("requests")
    return <uintptr_t>&send, <uintptr_t>&receive


def end():
    """Lets libfuse's loop end: no request comes any more."""
    request_queue_end(&others)


def reply(int file, uint64_t unique, int error, const uint8_t[::1] data=None):
    """Answers a request: an error number, or 0 and bytes."""
    cdef const uint8_t *bytes = NULL
    cdef size_t length = 0
    if data is not None and data.shape[0]:
        bytes = &data[0]
        length = <size_t>data.shape[0]
    with nogil:
        answer_request(file, unique, error, bytes, length)


cdef class Answerer:
    """One thread's: answers what it can, and tells what has to take the long way."""
    cdef answerer native
    cdef object owner   # of the data path

    def __cinit__(self, int file, uintptr_t data_path_address, owner):
        self.owner = owner
        if answerer_init(&self.native, file, <const data_path *>data_path_address, &others):
            raise MemoryError("requests")

    def __dealloc__(self):
        answerer_free(&self.native)

    def next(self):
        """The kind of the next request that takes the long way, READ, WRITE or SYNC; 0 when the mount
        is gone."""
        cdef request_kind kind
        with nogil:
            kind = answerer_next(&self.native)
        return <int>kind

    @property
    def unique(self):
        """The number of the request."""
        return self.native.unique

    @property
    def place(self):
        """(handle, offset, size) of a read or a write."""
        return self.native.handle, self.native.offset, self.native.size

    def data(self):
        """A copy of what a write brings."""
        return PyBytes_FromStringAndSize(<const char *>self.native.data,
                                         <Py_ssize_t>self.native.size)

    def out(self):
        """Room for what a read asks for; good until the next request."""
        if self.native.size == 0:
            return memoryview(bytearray())
        return memoryview(<uint8_t[:self.native.size]>self.native.answer)
