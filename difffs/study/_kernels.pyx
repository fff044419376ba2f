# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: freethreading_compatible=False
"""Native kernels that only the study needs; kept apart so that the daemon does not load them.

Python calls with many blocks at once and the calls release the GIL; the stubs in _kernels.pyi
give the types. Each pure function has a plain Python twin in the tests.
"""
from cpython.array cimport array, clone
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

import array as array_module

cdef extern from "bwt.h" nogil:
    enum: BWT_MAXIMUM_BYTES
    size_t bwt_workspace_size(size_t length)
    uint32_t bwt_transform(const uint8_t *block, size_t length, uint8_t *out, void *workspace)
    int bwt_inverse(const uint8_t *transformed, size_t length, uint32_t row, uint8_t *block,
                    void *workspace)
    void mtf_encode(uint8_t *bytes, size_t length)
    void mtf_decode(uint8_t *bytes, size_t length)

cdef array NUMBERS = array_module.array("I")


cdef size_t blocks_of(Py_ssize_t total, size_t block_bytes) except? 0:
    """How many blocks there are in `total` bytes."""
    if not 1 <= block_bytes <= BWT_MAXIMUM_BYTES or total % <Py_ssize_t>block_bytes:
        raise ValueError(f"{total} bytes are no whole number of blocks of {block_bytes}")
    return <size_t>total // block_bytes


def transform(const uint8_t[::1] blocks not None, size_t block_bytes):
    """MTF(BWT(block)) of each block, and the rows of their end marks."""
    cdef size_t count = blocks_of(blocks.shape[0], block_bytes)
    cdef bytes out = PyBytes_FromStringAndSize(NULL, blocks.shape[0])
    cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(out)
    cdef array rows = clone(NUMBERS, <Py_ssize_t>count, False)
    cdef uint32_t *row = <uint32_t *>rows.data.as_voidptr
    cdef void *workspace
    cdef size_t i
    if count == 0:
        return out, rows
    workspace = malloc(bwt_workspace_size(block_bytes))
    if workspace == NULL:
        raise MemoryError("workspace of the transform")
    with nogil:
        for i in range(count):
            row[i] = bwt_transform(&blocks[i * block_bytes], block_bytes, to, workspace)
            mtf_encode(to, block_bytes)
            to += block_bytes
    free(workspace)
    return out, rows


def inverse(const uint8_t[::1] transformed not None, const uint32_t[::1] rows not None,
            size_t block_bytes):
    """The blocks; ValueError when a transformed block and its row belong to none."""
    cdef size_t count = blocks_of(transformed.shape[0], block_bytes)
    cdef bytes out = PyBytes_FromStringAndSize(NULL, transformed.shape[0])
    cdef uint8_t *block = <uint8_t *>PyBytes_AS_STRING(out)
    cdef void *workspace
    cdef size_t i
    cdef int failed = 0
    if <size_t>rows.shape[0] != count:
        raise ValueError(f"{rows.shape[0]} rows for {count} blocks")
    if count == 0:
        return out
    workspace = malloc(bwt_workspace_size(block_bytes))
    if workspace == NULL:
        raise MemoryError("workspace of the transform")
    memcpy(block, &transformed[0], <size_t>transformed.shape[0])
    with nogil:
        for i in range(count):
            mtf_decode(block, block_bytes)
            failed |= bwt_inverse(block, block_bytes, rows[i], block, workspace)
            block += block_bytes
    free(workspace)
    if failed:
        raise ValueError("a block that is no transform of any")
    return out
