# cython: language_level=3
# cython: freethreading_compatible=False
"""Threads that answer the kernel without Python's lock, and how libfuse gets what is left.

See native/answering.h; all requests are timed (native/request_times.h). libfuse reads its requests
from a queue (`struct fuse_custom_io`), and one of its answers is put right:

When a file that was written loses its last name, the kernel first removes the name and then sends
the times that it has kept for the inode (SETATTR without a handle). libfuse has forgotten the node's
path by then and answers ESTALE without asking anybody; the kernel keeps that as an error of the file
system and reports it at the next syncfs, to whoever calls it. When the file was still being closed, its
node has the name that libfuse hides such files under, and keeps it after removing that name: then it
asks, and the answer is ENOENT. Nobody can ever see these times, so the answer here is that they are
set. (findings/fuse-sync-after-unlink.sh)
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport ENOENT, ESTALE
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t writev(int file, const iovec *vector, int count)

cdef extern from "request_times.h" nogil:
    enum:
        REQUEST_KINDS
        REQUEST_TIME_BOUNDS
        REQUEST_FAILURES
    cdef enum request_kind:
        pass
    const uint64_t request_time_bounds[REQUEST_TIME_BOUNDS]
    struct request_time:
        uint64_t started
        request_kind kind
    struct request_totals:
        uint64_t counts[REQUEST_KINDS][REQUEST_TIME_BOUNDS + 1]
        uint64_t nanoseconds[REQUEST_KINDS]
        uint64_t failures[REQUEST_FAILURES]
    void request_answered(request_time request, int32_t error)
    void copy_request_totals(request_totals *out)

cdef extern from "answering.h" nogil:
    enum: ANSWER_BYTES
    struct data_path:
        pass
    struct request_queue:
        pass
    cdef enum long_way:
        LONG_WAY_READ
        LONG_WAY_WRITE
        LONG_WAY_SYNC
    struct answerer:
        uint8_t *answer
        request_time time
        uint64_t unique
        uint64_t handle
        uint64_t offset
        uint32_t size
        const uint8_t *data
    int request_queue_init(request_queue *queue)
    ssize_t request_queue_take(request_queue *queue, void *buffer, size_t size,
                               request_time *time)
    int answerer_init(answerer *self, int file, const data_path *path, request_queue *others)
    void answerer_free(answerer *self)
    long_way answerer_next(answerer *self)
    void answer_request(int file, uint64_t unique, request_time time, int error, const void *data,
                        size_t length)

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
    HEADER_BYTES = 40
    SETATTR = 4
    SETS_TIMES = 1 << 5 | 1 << 10  # FATTR_MTIME | FATTR_CTIME, and no FATTR_FH
    ATTRIBUTES_BYTES = 104         # struct fuse_attr_out, which the kernel does not look at here

READ = <int>LONG_WAY_READ
WRITE = <int>LONG_WAY_WRITE
SYNC = <int>LONG_WAY_SYNC

cdef request_queue others          # what libfuse is to answer; one mount a process
# The request that libfuse answers: its number, 0 for none; its time; whether it may be such a one.
cdef uint64_t current
cdef request_time current_time
cdef bint sets_times_of_nobody


cdef ssize_t receive(int _file, void *buffer, size_t size, void *_data) noexcept nogil:
    global current, sets_times_of_nobody
    cdef ssize_t got = request_queue_take(&others, buffer, size, &current_time)
    cdef request_header *header = <request_header *>buffer
    current = header.unique if got >= HEADER_BYTES else 0
    sets_times_of_nobody = (got >= <ssize_t>sizeof(request_header) and
                            header.opcode == SETATTR and header.valid == SETS_TIMES)
    return got


cdef ssize_t send(int file, iovec *vector, int count, void *_data) noexcept nogil:
    global current
    cdef reply_header *header = <reply_header *>vector[0].iov_base
    cdef char attributes[ATTRIBUTES_BYTES]
    cdef reply_header answer
    cdef iovec parts[2]
    cdef ssize_t sent
    cdef bint to_current = current != 0 and header.unique == current
    if to_current:  # once; what libfuse sends by itself has no request
        request_answered(current_time, header.error)
        current = 0
    if (count != 1 or vector[0].iov_len != sizeof(reply_header) or
            (header.error != -ESTALE and header.error != -ENOENT) or
            not to_current or not sets_times_of_nobody):
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


def time_bounds():
    """Upper bounds of the counters of times, in nanoseconds, ascending."""
    return [request_time_bounds[bound] for bound in range(REQUEST_TIME_BOUNDS)]


def totals():
    """(counts, nanoseconds, failures) of this process's requests so far.

    Counts and nanoseconds have an entry a kind, failures one a number, in the order of
    native/request_times.h; counts are by time_bounds(), with what took longer behind them.
    """
    cdef request_totals now
    copy_request_totals(&now)
    return (
        [[now.counts[kind][bound] for bound in range(REQUEST_TIME_BOUNDS + 1)]
         for kind in range(REQUEST_KINDS)],
        [now.nanoseconds[kind] for kind in range(REQUEST_KINDS)],
        [now.failures[failure] for failure in range(REQUEST_FAILURES)],
    )


def addresses():
    """(writev, read) for libfuse's `struct fuse_custom_io`; for one session."""
    if request_queue_init(&others):
        raise MemoryError("requests")
    return <uintptr_t>&send, <uintptr_t>&receive


cdef class Request:
    """A request that takes the long way, to be answered once."""
    cdef int file
    cdef request_time time
    cdef readonly object unique
    """Its number."""

    def reply(self, int error, const uint8_t[::1] data=None):
        """Answers it: an error number, or 0 and bytes."""
        cdef const uint8_t *bytes = NULL
        cdef size_t length = 0
        cdef uint64_t unique = self.unique
        if data is not None and data.shape[0]:
            bytes = &data[0]
            length = <size_t>data.shape[0]
        with nogil:
            answer_request(self.file, unique, self.time, error, bytes, length)


cdef class Answerer:
    """One thread's: answers what it can, and tells what has to take the long way."""
    cdef answerer native
    cdef int file
    cdef object owner   # of the data path

    def __cinit__(self, int file, uintptr_t data_path_address, owner):
        self.owner = owner
        self.file = file
        if answerer_init(&self.native, file, <const data_path *>data_path_address, &others):
            raise MemoryError("requests")

    def __dealloc__(self):
        answerer_free(&self.native)

    def next(self):
        """The kind of the next request that takes the long way, READ, WRITE or SYNC; 0 when the mount
        is gone."""
        cdef long_way kind
        with nogil:
            kind = answerer_next(&self.native)
        return <int>kind

    def request(self):
        """The request, for whoever answers it."""
        cdef Request request = Request()
        request.file = self.file
        request.time = self.native.time
        request.unique = self.native.unique
        return request

    @property
    def place(self):
        """(handle, offset, size) of a read or a write; of a SYNC only the handle counts, which is 0
        where everything is to be committed."""
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
