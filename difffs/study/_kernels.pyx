# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: freethreading_compatible=False
"""Native kernels that only the study needs; kept apart so that the daemon does not load them.

Python calls with many blocks at once and the calls release the GIL; the stubs in _kernels.pyi
give the types. Each pure function has a plain Python twin in the tests.
"""
from cpython.array cimport array, clone
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

import array as array_module

cdef extern from "bwt.h" nogil:
    enum: BWT_MAXIMUM_BYTES
    size_t BWT_WORKSPACE_WORDS(size_t length)
    uint32_t bwt_transform(const uint8_t *block, size_t length, uint8_t *out,
                           uint32_t *workspace)
    int bwt_inverse(const uint8_t *transformed, size_t length, uint32_t row, uint8_t *block,
                    uint32_t *workspace)
    void mtf_encode(uint8_t *bytes, size_t length)
    void mtf_decode(uint8_t *bytes, size_t length)

cdef extern from "range_coder.h" nogil:
    long range_code "range_encode"(const uint8_t *ranks, size_t count, uint8_t *out,
                                   size_t capacity)
    int range_uncode "range_decode"(const uint8_t *code, size_t length, uint8_t *ranks,
                                    size_t count)

cdef extern from *:
    """
    #define ZSTD_STATIC_LINKING_ONLY
    #include <zstd.h>
    """
    ctypedef struct ZSTD_CCtx
    ctypedef struct ZSTD_DCtx
    enum: ZSTD_c_format
    enum: ZSTD_c_compressionLevel
    enum: ZSTD_c_contentSizeFlag
    enum: ZSTD_d_format
    enum: ZSTD_f_zstd1_magicless
    ZSTD_CCtx *ZSTD_createCCtx() nogil
    size_t ZSTD_freeCCtx(ZSTD_CCtx *context) nogil
    size_t ZSTD_CCtx_setParameter(ZSTD_CCtx *context, int parameter, int value) nogil
    size_t ZSTD_compressBound(size_t length) nogil
    size_t ZSTD_compress2(ZSTD_CCtx *context, void *out, size_t capacity, const void *data,
                          size_t length) nogil
    ZSTD_DCtx *ZSTD_createDCtx() nogil
    size_t ZSTD_freeDCtx(ZSTD_DCtx *context) nogil
    size_t ZSTD_DCtx_setParameter(ZSTD_DCtx *context, int parameter, int value) nogil
    size_t ZSTD_decompressDCtx(ZSTD_DCtx *context, void *out, size_t capacity, const void *data,
                               size_t length) nogil
    unsigned ZSTD_isError(size_t code) nogil

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
    cdef uint32_t *workspace
    cdef size_t i
    if count == 0:
        return out, rows
    workspace = <uint32_t *>malloc(4 * BWT_WORKSPACE_WORDS(block_bytes))
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
    cdef uint32_t *workspace
    cdef size_t i
    cdef int failed = 0
    if <size_t>rows.shape[0] != count:
        raise ValueError(f"{rows.shape[0]} rows for {count} blocks")
    if count == 0:
        return out
    workspace = <uint32_t *>malloc(4 * BWT_WORKSPACE_WORDS(block_bytes))
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


cdef uint64_t total_of(const uint32_t[::1] lengths, Py_ssize_t available) except? 0:
    """The sum of lengths, which is what there is."""
    cdef uint64_t total = 0
    cdef Py_ssize_t i
    for i in range(lengths.shape[0]):
        total += lengths[i]
    if total != <uint64_t>available:
        raise ValueError(f"lengths of {total} bytes in all for {available}")
    return total


def range_encode(const uint8_t[::1] ranks not None, size_t block_bytes):
    """The range coder's codes of blocks of ranks, one behind the other, and their lengths."""
    cdef size_t count = blocks_of(ranks.shape[0], block_bytes)
    # Even a block of the least likely ranks stays well below this.
    cdef size_t capacity = 4 * block_bytes + 64
    cdef array lengths = clone(NUMBERS, <Py_ssize_t>count, False)
    cdef uint32_t *length = <uint32_t *>lengths.data.as_voidptr
    cdef bytes out
    cdef uint8_t *codes
    cdef uint8_t *to
    cdef size_t i
    cdef long written = 0
    if count == 0:
        return b"", lengths
    codes = <uint8_t *>malloc(count * capacity)
    if codes == NULL:
        raise MemoryError("codes of the range coder")
    to = codes
    with nogil:
        for i in range(count):
            written = range_code(&ranks[i * block_bytes], block_bytes, to, capacity)
            if written < 0:
                break
            length[i] = <uint32_t>written
            to += written
    out = codes[:to - codes]
    free(codes)
    if written < 0:
        raise ValueError("a code longer than four times its block")
    return out, lengths


def range_decode(const uint8_t[::1] codes not None, const uint32_t[::1] lengths not None,
                 size_t block_bytes):
    """The blocks of ranks; ValueError when a code is none's."""
    cdef size_t count = <size_t>lengths.shape[0]
    cdef bytes out
    cdef uint8_t *to
    cdef const uint8_t *code = NULL
    cdef size_t i
    cdef int failed = 0
    blocks_of(0, block_bytes)
    total_of(lengths, codes.shape[0])
    out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(count * block_bytes))
    to = <uint8_t *>PyBytes_AS_STRING(out)
    if codes.shape[0]:
        code = &codes[0]
    with nogil:
        for i in range(count):
            failed |= range_uncode(code, lengths[i], to, block_bytes)
            to += block_bytes
            if lengths[i]:
                code += lengths[i]
    if failed:
        raise ValueError("bytes that are no block's code")
    return out


def zstd_encode(const uint8_t[::1] blocks not None, size_t block_bytes, int level):
    """Frames of the blocks as the store has them (magicless), and their lengths."""
    cdef size_t count = blocks_of(blocks.shape[0], block_bytes)
    cdef size_t capacity = ZSTD_compressBound(block_bytes)
    cdef array lengths = clone(NUMBERS, <Py_ssize_t>count, False)
    cdef uint32_t *length = <uint32_t *>lengths.data.as_voidptr
    cdef ZSTD_CCtx *context
    cdef uint8_t *frames
    cdef uint8_t *to
    cdef bytes out
    cdef size_t i
    cdef size_t written = 0
    if count == 0:
        return b"", lengths
    context = ZSTD_createCCtx()
    frames = <uint8_t *>malloc(count * capacity)
    if context == NULL or frames == NULL:
        ZSTD_freeCCtx(context)
        free(frames)
        raise MemoryError("frames of zstd")
    ZSTD_CCtx_setParameter(context, ZSTD_c_format, ZSTD_f_zstd1_magicless)
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0)
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)
    to = frames
    with nogil:
        for i in range(count):
            written = ZSTD_compress2(context, to, capacity, &blocks[i * block_bytes], block_bytes)
            if ZSTD_isError(written):
                break
            length[i] = <uint32_t>written
            to += written
    out = frames[:to - frames]
    ZSTD_freeCCtx(context)
    free(frames)
    if ZSTD_isError(written):
        raise ValueError(f"zstd cannot encode at level {level}")
    return out, lengths


def zstd_decode(const uint8_t[::1] frames not None, const uint32_t[::1] lengths not None,
                size_t block_bytes):
    """The blocks; ValueError when a frame is malformed or of another length."""
    cdef size_t count = <size_t>lengths.shape[0]
    cdef ZSTD_DCtx *context
    cdef const uint8_t *frame = NULL
    cdef bytes out
    cdef uint8_t *to
    cdef size_t i
    cdef int failed = 0
    blocks_of(0, block_bytes)
    total_of(lengths, frames.shape[0])
    out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(count * block_bytes))
    to = <uint8_t *>PyBytes_AS_STRING(out)
    if frames.shape[0]:
        frame = &frames[0]
    context = ZSTD_createDCtx()
    if context == NULL:
        raise MemoryError("context of zstd")
    ZSTD_DCtx_setParameter(context, ZSTD_d_format, ZSTD_f_zstd1_magicless)
    with nogil:
        for i in range(count):
            failed |= ZSTD_decompressDCtx(context, to, block_bytes, frame,
                                          lengths[i]) != block_bytes
            to += block_bytes
            if lengths[i]:
                frame += lengths[i]
    ZSTD_freeDCtx(context)
    if failed:
        raise ValueError("bytes that are no block's frame")
    return out


cdef class FrameCoder:
    """Frames as the store has them, of pieces of any length, with zstd contexts that it keeps: as
    fast as the engine's. For one thread."""
    cdef ZSTD_CCtx *encoder
    cdef ZSTD_DCtx *decoder

    def __cinit__(self, int level=1):
        self.encoder = ZSTD_createCCtx()
        self.decoder = ZSTD_createDCtx()
        if self.encoder == NULL or self.decoder == NULL:
            raise MemoryError("contexts of zstd")
        ZSTD_CCtx_setParameter(self.encoder, ZSTD_c_format, ZSTD_f_zstd1_magicless)
        ZSTD_CCtx_setParameter(self.encoder, ZSTD_c_contentSizeFlag, 0)
        ZSTD_CCtx_setParameter(self.encoder, ZSTD_c_compressionLevel, level)
        ZSTD_DCtx_setParameter(self.decoder, ZSTD_d_format, ZSTD_f_zstd1_magicless)

    def __dealloc__(self):
        ZSTD_freeCCtx(self.encoder)
        ZSTD_freeDCtx(self.decoder)

    def encode(self, const uint8_t[::1] piece not None):
        cdef size_t length = <size_t>piece.shape[0]
        cdef size_t capacity = ZSTD_compressBound(length)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>capacity)
        cdef const uint8_t *data = &piece[0] if length else NULL
        cdef size_t written = ZSTD_compress2(self.encoder, PyBytes_AS_STRING(out), capacity, data,
                                             length)
        if ZSTD_isError(written):
            raise ValueError(f"zstd cannot encode {length} bytes")
        return out[:written]

    def decode(self, const uint8_t[::1] frame not None, size_t length):
        """The piece; ValueError when the frame is malformed or of another length."""
        cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>length)
        cdef const uint8_t *data = &frame[0] if frame.shape[0] else NULL
        if frame.shape[0] == 0 or ZSTD_decompressDCtx(
                self.decoder, PyBytes_AS_STRING(out), length, data,
                <size_t>frame.shape[0]) != length:
            raise ValueError("bytes that are no piece's frame")
        return out
