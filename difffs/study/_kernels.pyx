# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: freethreading_compatible=False
"""Native kernels that only the study needs; kept apart so that the daemon does not load them.

Python calls with many blocks at once and the calls release the GIL; the stubs in _kernels.pyi
give the types. Each pure function has a plain Python twin in the tests.
"""
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from array import array

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

cdef extern from "page.h" nogil:
    enum: PAGE_BYTES
    enum: MAXIMUM_FEATURES
    cdef enum sketch_kind:
        pass
    unsigned page_sketch(sketch_kind kind, const uint8_t *page, uint32_t *features)

cdef extern from "page_features.h" nogil:
    enum: KEY_BLOCK_BYTES
    enum: KEY_BLOCKS_MOST
    enum: TRANSFORMS
    enum: MIN_HASH_BINS_MOST
    enum: MIN_HASH_WORDS_MOST
    struct super_features:
        pass
    void block_keys_of "block_keys"(const uint8_t *page, const uint32_t *places, unsigned keys,
                                    unsigned blocks, uint32_t *features)
    void super_features_prepare(super_features *tables)
    void ntransform_of "ntransform_features"(const super_features *tables, const uint8_t *page,
                                             unsigned grouped, uint32_t *features)
    void odess_of "odess_features"(const super_features *tables, const uint8_t *page,
                                   unsigned grouped, uint32_t *features)
    void finesse_of "finesse_features"(const super_features *tables, const uint8_t *page,
                                       uint32_t *features)
    void min_hash_of "min_hash_features"(const uint8_t *page, unsigned words, unsigned bins,
                                         uint32_t *features)

cdef extern from "feature_index.h" nogil:
    enum: FEATURES_MOST
    enum: PAGES_KEPT_MOST
    struct feature_index:
        size_t features
        size_t pages
    int feature_index_make(feature_index *index, unsigned kept, int newest)
    void feature_index_free(feature_index *index)
    int feature_index_put(feature_index *index, const uint32_t *features, unsigned count,
                          uint32_t number)
    unsigned feature_index_find(const feature_index *index, const uint32_t *features,
                                unsigned count, unsigned limit, uint32_t *numbers)

cdef extern from "overlap.h" nogil:
    enum: OVERLAP_BEST_MOST
    struct overlap_best:
        uint32_t number
        uint32_t common
    struct overlap:
        overlap_best *best
    int overlap_make(overlap *overlap, const uint8_t *pages, const uint32_t *numbers,
                     size_t count, unsigned words, unsigned best_count)
    void overlap_free(overlap *overlap)
    void overlap_look(overlap *overlap, const uint8_t *page, uint32_t number)

cdef extern from "codec.h" nogil:
    cdef enum codec:
        pass
    enum: PAGE_CODEC_COUNT
    ctypedef struct codec_context
    codec_context *codec_context_new()
    void codec_context_free(codec_context *context)
    size_t codec_encode(codec_context *context, codec codec, int level, const uint8_t *page,
                        const uint8_t *base, uint8_t *out, size_t capacity)
    int codec_decode(codec_context *context, codec codec, const uint8_t *payload, size_t length,
                     const uint8_t *base, uint8_t *page)
    size_t codec_encoder_bytes(const codec_context *context, codec codec)
    size_t codec_decoder_bytes(const codec_context *context, codec codec)

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

cdef object NUMBER = array("I", [0])  # times n: room for n numbers


cdef uint32_t *first_of(uint32_t[::1] numbers) noexcept:
    """Where they lie, as long as whoever has them keeps them and their count."""
    return &numbers[0] if numbers.shape[0] else NULL


cdef size_t blocks_of(Py_ssize_t total, size_t block_bytes) except? 0:
    """How many blocks there are in `total` bytes."""
    if not 1 <= block_bytes <= BWT_MAXIMUM_BYTES or total % <Py_ssize_t>block_bytes:
        raise ValueError(f"{total} bytes are no whole number of blocks of {block_bytes}")
    return <size_t>total // block_bytes


def transform(const uint8_t[::1] blocks not None, size_t block_bytes):
    """MTF(BWT(block)) of each block, and the rows of their end marks."""
    cdef size_t count = blocks_of(blocks.shape[0], block_bytes)
    cdef bytes out = PyBytes_FromStringAndSize(NULL, blocks.shape[0])
    cdef uint8_t *to = <uint8_t *>PyBytes_AsString(out)
    rows = NUMBER * count
    cdef uint32_t *row = first_of(rows)
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
    cdef uint8_t *block = <uint8_t *>PyBytes_AsString(out)
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
    lengths = NUMBER * count
    cdef uint32_t *length = first_of(lengths)
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
    to = <uint8_t *>PyBytes_AsString(out)
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


cdef object equal_lengths(size_t count, size_t block_bytes):
    return array("I", [block_bytes]) * count


def zstd_encode(const uint8_t[::1] blocks not None, size_t block_bytes, int level):
    """Frames of the blocks as the store has them (magicless), and their lengths."""
    return zstd_encode_pieces(
        blocks, equal_lengths(blocks_of(blocks.shape[0], block_bytes), block_bytes), level)


def zstd_decode(const uint8_t[::1] frames not None, const uint32_t[::1] lengths not None,
                size_t block_bytes):
    """The blocks; ValueError when a frame is malformed or of another length."""
    blocks_of(0, block_bytes)
    blocks, found = zstd_decode_pieces(frames, lengths, block_bytes)
    if found != equal_lengths(<size_t>lengths.shape[0], block_bytes):
        raise ValueError("bytes that are no block's frame")
    return blocks


def zstd_encode_pieces(const uint8_t[::1] pieces not None, const uint32_t[::1] piece_lengths not None,
                       int level):
    """Frames of pieces of any lengths, one behind the other, and their lengths."""
    cdef size_t capacity = 0
    cdef Py_ssize_t i
    for i in range(piece_lengths.shape[0]):
        capacity += ZSTD_compressBound(piece_lengths[i])
    return coded(FrameContexts(level), True, pieces, piece_lengths, capacity, capacity)


def zstd_decode_pieces(const uint8_t[::1] frames not None, const uint32_t[::1] lengths not None,
                       size_t maximum):
    """Pieces of at most `maximum` bytes, one behind the other, and their lengths; ValueError when a
    frame is malformed or of more."""
    return coded(FrameContexts(), False, frames, lengths, <size_t>lengths.shape[0] * maximum,
                 maximum)


cdef tuple coded(FrameContexts contexts, bint encodes, const uint8_t[::1] given,
                 const uint32_t[::1] given_lengths, size_t capacity, size_t maximum):
    """All that is given encoded, or decoded, and the lengths of what has become of each: `maximum`
    bytes at most, `capacity` bytes in all."""
    cdef size_t count = <size_t>given_lengths.shape[0]
    lengths = NUMBER * count
    cdef uint32_t *length = first_of(lengths)
    cdef const uint8_t *piece = &given[0] if given.shape[0] else NULL
    cdef bytes out
    cdef uint8_t *to
    cdef size_t i
    cdef size_t left = capacity
    cdef size_t written = 0
    total_of(given_lengths, given.shape[0])
    out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>capacity)
    to = <uint8_t *>PyBytes_AsString(out)
    with nogil:
        for i in range(count):
            if encodes:
                written = ZSTD_compress2(contexts.encoder, to, left, piece, given_lengths[i])
            elif given_lengths[i]:
                written = ZSTD_decompressDCtx(contexts.decoder, to, maximum, piece,
                                              given_lengths[i])
            else:
                # no bytes are no frame, but zstd takes them for those of an empty piece
                written = <size_t>-1
            if ZSTD_isError(written):
                break
            length[i] = <uint32_t>written
            to += written
            left -= written
            if given_lengths[i]:
                piece += given_lengths[i]
    if ZSTD_isError(written):
        raise ValueError("zstd cannot encode at that level" if encodes
                         else "bytes that are no block's frame")
    return out[:capacity - left], lengths


cdef class FrameContexts:
    """The contexts of zstd for frames as the store has them."""
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


# ----------------------------------------------------------------------------- features of pages

cdef super_features SUPER_FEATURES
super_features_prepare(&SUPER_FEATURES)


cdef object room_for(const uint8_t[::1] pages, unsigned features):
    """Room for so many features of each page, still to be written."""
    return NUMBER * (blocks_of(pages.shape[0], PAGE_BYTES) * features)


def product_sketches(int kind, const uint8_t[::1] pages not None):
    """The product's own sketch of each page: MAXIMUM_FEATURES features, 0 for those it lacks."""
    out = room_for(pages, MAXIMUM_FEATURES)
    cdef uint32_t *to = first_of(out)
    cdef Py_ssize_t i
    cdef unsigned f, count
    with nogil:
        for i in range(pages.shape[0] // <Py_ssize_t>PAGE_BYTES):
            count = page_sketch(<sketch_kind>kind, &pages[i * PAGE_BYTES], to)
            for f in range(count, MAXIMUM_FEATURES):
                to[f] = 0
            to += MAXIMUM_FEATURES
    return out


def block_keys(const uint8_t[::1] pages not None, const uint32_t[::1] places not None,
               unsigned keys):
    """Difference Engine's keys of each page, each of its share of the blocks at the places."""
    out = room_for(pages, keys)
    cdef uint32_t *to = first_of(out)
    cdef unsigned blocks
    cdef Py_ssize_t i
    if not 1 <= keys <= FEATURES_MOST or places.shape[0] % keys:
        raise ValueError(f"{places.shape[0]} places for {keys} keys")
    blocks = <unsigned>(places.shape[0] // keys)
    if not 1 <= blocks <= KEY_BLOCKS_MOST or max(places) > PAGE_BYTES - KEY_BLOCK_BYTES:
        raise ValueError("places of too many blocks, or out of the page")
    with nogil:
        for i in range(pages.shape[0] // <Py_ssize_t>PAGE_BYTES):
            block_keys_of(&pages[i * PAGE_BYTES], &places[0], keys, blocks, to)
            to += keys
    return out


cdef unsigned groups_of(unsigned grouped) except 0:
    if not 1 <= grouped <= TRANSFORMS or TRANSFORMS % grouped:
        raise ValueError(f"{TRANSFORMS} features are no whole number of groups of {grouped}")
    return TRANSFORMS // grouped


def ntransform_features(const uint8_t[::1] pages not None, unsigned grouped):
    """N-transform: 12 / grouped (super-)features of each page."""
    cdef unsigned groups = groups_of(grouped)
    out = room_for(pages, groups)
    cdef uint32_t *to = first_of(out)
    cdef Py_ssize_t i
    with nogil:
        for i in range(pages.shape[0] // <Py_ssize_t>PAGE_BYTES):
            ntransform_of(&SUPER_FEATURES, &pages[i * PAGE_BYTES], grouped, to)
            to += groups
    return out


def odess_features(const uint8_t[::1] pages not None, unsigned grouped):
    """Odess: 12 / grouped (super-)features of each page, 0s where nothing is sampled."""
    cdef unsigned groups = groups_of(grouped)
    out = room_for(pages, groups)
    cdef uint32_t *to = first_of(out)
    cdef Py_ssize_t i
    with nogil:
        for i in range(pages.shape[0] // <Py_ssize_t>PAGE_BYTES):
            odess_of(&SUPER_FEATURES, &pages[i * PAGE_BYTES], grouped, to)
            to += groups
    return out


def finesse_features(const uint8_t[::1] pages not None):
    """Finesse: three super-features of each page."""
    cdef unsigned groups = groups_of(4)
    out = room_for(pages, groups)
    cdef uint32_t *to = first_of(out)
    cdef Py_ssize_t i
    with nogil:
        for i in range(pages.shape[0] // <Py_ssize_t>PAGE_BYTES):
            finesse_of(&SUPER_FEATURES, &pages[i * PAGE_BYTES], to)
            to += groups
    return out


def min_hash_features(const uint8_t[::1] pages not None, unsigned words, unsigned bins):
    """One-permutation min-hash of windows of `words` words: `bins` features of each page, 0s for
    empty bins."""
    out = room_for(pages, bins)
    cdef uint32_t *to = first_of(out)
    cdef Py_ssize_t i
    if not 1 <= words <= MIN_HASH_WORDS_MOST:
        raise ValueError(f"windows of {words} words")
    if not 1 <= bins <= MIN_HASH_BINS_MOST or bins & (bins - 1):
        raise ValueError(f"{bins} bins")
    with nogil:
        for i in range(pages.shape[0] // <Py_ssize_t>PAGE_BYTES):
            min_hash_of(&pages[i * PAGE_BYTES], words, bins, to)
            to += bins
    return out


cdef class FeatureIndex:
    """Which pages have a feature, without bounds."""
    cdef feature_index native
    cdef readonly unsigned width

    def __cinit__(self, unsigned width, unsigned kept, bint newest):
        if not 1 <= width <= FEATURES_MOST or not 1 <= kept <= PAGES_KEPT_MOST:
            raise ValueError(f"{width} features a page, {kept} pages a feature")
        self.width = width
        if feature_index_make(&self.native, kept, newest) != 0:
            raise MemoryError("an index of features")

    def __dealloc__(self):
        feature_index_free(&self.native)

    @property
    def features(self):
        """Different features."""
        return self.native.features

    @property
    def pages(self):
        """Page numbers held, of all features."""
        return self.native.pages

    cdef int rows(self, const uint32_t[::1] features, Py_ssize_t start, Py_ssize_t end) except -1:
        if not 0 <= start <= end or end * <Py_ssize_t>self.width > features.shape[0]:
            raise IndexError(f"rows {start} to {end} of {features.shape[0]} features")
        return 0

    def find(self, const uint32_t[::1] features not None, Py_ssize_t row, unsigned limit):
        """Up to `limit` page numbers for one row of features, those with most votes first."""
        cdef uint32_t numbers[FEATURES_MOST * PAGES_KEPT_MOST]
        cdef unsigned found
        self.rows(features, row, row + 1)
        if limit > FEATURES_MOST * PAGES_KEPT_MOST:
            raise ValueError(f"{limit} pages wanted")
        found = feature_index_find(&self.native, &features[row * self.width], self.width, limit,
                                   numbers)
        return [numbers[i] for i in range(found)]

    def find_all(self, const uint32_t[::1] features not None, unsigned limit):
        """How many page numbers there are in all for the rows of features, `limit` for each."""
        cdef uint32_t numbers[FEATURES_MOST * PAGES_KEPT_MOST]
        cdef Py_ssize_t row
        cdef Py_ssize_t count = features.shape[0] // self.width
        cdef size_t found = 0
        if limit > FEATURES_MOST * PAGES_KEPT_MOST:
            raise ValueError(f"{limit} pages wanted")
        with nogil:
            for row in range(count):
                found += feature_index_find(&self.native, &features[row * self.width], self.width,
                                            limit, numbers)
        return found

    def put(self, const uint32_t[::1] features not None, Py_ssize_t start, Py_ssize_t end,
            uint32_t first):
        """Enter rows start to end - 1 of the features for pages first, first + 1, ..."""
        cdef Py_ssize_t row
        cdef int failed = 0
        self.rows(features, start, end)
        with nogil:
            for row in range(start, end):
                failed |= feature_index_put(&self.native, &features[row * self.width], self.width,
                                            first + <uint32_t>(row - start))
        if failed:
            raise MemoryError("an index of features")


cdef class Overlap:
    """Which earlier pages have most windows in common with each page of a sample."""
    cdef overlap native
    cdef const uint32_t[::1] numbers
    cdef readonly unsigned best_count

    def __cinit__(self, const uint8_t[::1] pages not None, const uint32_t[::1] numbers not None,
                  unsigned words, unsigned best_count):
        cdef size_t count = blocks_of(pages.shape[0], PAGE_BYTES)
        cdef int failed
        if <size_t>len(numbers) != count:
            raise ValueError(f"{len(numbers)} numbers for {count} pages")
        if sorted(set(numbers)) != list(numbers):
            raise ValueError("numbers of pages must ascend")
        if not 1 <= words <= MIN_HASH_WORDS_MOST or not 1 <= best_count <= OVERLAP_BEST_MOST:
            raise ValueError(f"windows of {words} words, the best {best_count}")
        self.numbers = numbers
        self.best_count = best_count
        failed = overlap_make(&self.native, &pages[0] if count else NULL,
                              &numbers[0] if count else NULL, count, words, best_count)
        if failed:
            raise MemoryError("windows of the sample")

    def __dealloc__(self):
        overlap_free(&self.native)

    def look(self, const uint8_t[::1] pages not None, uint32_t first):
        """Compare the pages, numbered first, first + 1, ..., with the sample's later ones."""
        cdef Py_ssize_t i
        cdef Py_ssize_t count = <Py_ssize_t>blocks_of(pages.shape[0], PAGE_BYTES)
        with nogil:
            for i in range(count):
                overlap_look(&self.native, &pages[i * PAGE_BYTES], first + <uint32_t>i)

    def best(self):
        """For each page of the sample: (page number, distinct windows in common), best first."""
        cdef Py_ssize_t member
        cdef unsigned rank
        cdef overlap_best *best
        found = []
        for member in range(len(self.numbers)):
            best = self.native.best + member * <Py_ssize_t>self.best_count
            found.append([(best[rank].number, best[rank].common)
                          for rank in range(self.best_count) if best[rank].common])
        return found


cdef class PageCoder:
    """One of the product's codecs at one level, with a context of its own: for many pages a call."""
    cdef codec_context *native
    cdef codec kind
    cdef int level

    def __cinit__(self, int kind, int level=1):
        if not 0 < kind < PAGE_CODEC_COUNT:
            raise ValueError(f"no codec {kind}")
        self.kind = <codec>kind
        self.level = level
        self.native = codec_context_new()
        if self.native == NULL:
            raise MemoryError("codec contexts")

    def __dealloc__(self):
        codec_context_free(self.native)

    def encode(self, const uint8_t[::1] pages not None, const uint8_t[::1] bases=None):
        """Payloads one behind the other, and their lengths: 0 where one is longer than its page."""
        cdef size_t count = blocks_of(pages.shape[0], PAGE_BYTES)
        cdef const uint8_t *base = base_of(bases, count)
        cdef size_t base_step = 0 if base == NULL else PAGE_BYTES
        lengths = NUMBER * count
        cdef uint32_t *length = first_of(lengths)
        cdef uint8_t *payloads
        cdef uint8_t *to
        cdef bytes out
        cdef size_t i
        if count == 0:
            return b"", lengths
        payloads = <uint8_t *>malloc(count * PAGE_BYTES)
        if payloads == NULL:
            raise MemoryError("payloads")
        to = payloads
        with nogil:
            for i in range(count):
                length[i] = <uint32_t>codec_encode(
                    self.native, self.kind, self.level, &pages[i * PAGE_BYTES],
                    base + i * base_step, to, PAGE_BYTES)
                to += length[i]
        out = payloads[:to - payloads]
        free(payloads)
        return out, lengths

    def decode(self, const uint8_t[::1] payloads not None, const uint32_t[::1] lengths not None,
               const uint8_t[::1] bases=None):
        """The pages; ValueError when a payload is malformed, as one of no bytes is."""
        cdef size_t count = <size_t>lengths.shape[0]
        cdef const uint8_t *base = base_of(bases, count)
        cdef size_t base_step = 0 if base == NULL else PAGE_BYTES
        cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(count * PAGE_BYTES))
        cdef uint8_t *to = <uint8_t *>PyBytes_AsString(out)
        cdef const uint8_t *payload = NULL
        cdef size_t i
        cdef int failed = 0
        total_of(lengths, payloads.shape[0])
        if payloads.shape[0]:
            payload = &payloads[0]
        with nogil:
            for i in range(count):
                if lengths[i] == 0:
                    failed = 1
                    break
                failed |= codec_decode(self.native, self.kind, payload, lengths[i],
                                       base + i * base_step, to)
                to += PAGE_BYTES
                payload += lengths[i]
        if failed:
            raise ValueError("bytes that are no page's payload")
        return out

    @property
    def encoder_bytes(self):
        """Memory that encoding works in, as large as it became: native/codec.h."""
        return codec_encoder_bytes(self.native, self.kind)

    @property
    def decoder_bytes(self):
        """The same of decoding."""
        return codec_decoder_bytes(self.native, self.kind)


cdef const uint8_t *base_of(const uint8_t[::1] bases, size_t count) except? NULL:
    if bases is None:
        return NULL
    if <size_t>bases.shape[0] != count * PAGE_BYTES:
        raise ValueError(f"{bases.shape[0]} bytes of bases for {count} pages")
    return &bases[0] if count else NULL
