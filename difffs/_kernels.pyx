# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: freethreading_compatible=False
"""Native page kernels: everything that touches page bytes or per-page records.

Python calls with batches and the calls release the GIL where they work for long; the stubs in
_kernels.pyi give the types. Each pure function has a plain Python twin in the tests.
"""
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import os
from array import array

cdef extern from "page.h" nogil:
    enum: PAGE_BYTES
    enum: MAXIMUM_FEATURES
    cdef enum sketch_kind:
        pass
    int page_is_same_filled(const uint8_t *page, uint64_t *word)
    uint64_t page_digest(const uint8_t *page)
    uint32_t payload_checksum(const uint8_t *payload, size_t length)
    uint64_t value_binding(const uint8_t *identity, size_t identity_length, const uint8_t *value,
                           size_t length)
    unsigned page_sketch(sketch_kind kind, const uint8_t *page, uint32_t *features)
    size_t page_common_run(const uint8_t *page, const uint8_t *base)

cdef extern from "codec.h" nogil:
    cdef enum codec:
        CODEC_VCDIFF
        CODEC_ZSTD_DICTIONARY
        CODEC_SAME
        CODEC_MEMBER
        CODEC_GROUP_LZMA
        CODEC_GROUP_DICTIONARY
    int codec_is_group(unsigned codec)
    enum: DECODING_ONLY
    enum: CODEC_COUNT
    enum: CODEC_ROOM
    ctypedef struct codec_context
    ctypedef struct codec_dictionary
    codec_dictionary *codec_dictionary_new(const uint8_t *bytes, size_t length, int level)
    void codec_dictionary_free(codec_dictionary *dictionary)
    size_t codec_dictionary_train(const uint8_t *pages, unsigned count, uint8_t *out,
                                  size_t capacity, int level)
    void codec_context_use(codec_context *context, const codec_dictionary *dictionary)
    void codec_context_use_for_groups(codec_context *context, const codec_dictionary *dictionary)
    codec_context *codec_context_new()
    void codec_context_free(codec_context *context)
    size_t codec_encode(codec_context *context, codec codec, int level, const uint8_t *page,
                        const uint8_t *base, uint8_t *out, size_t capacity)
    int codec_decode(codec_context *context, codec codec, const uint8_t *payload, size_t length,
                     const uint8_t *base, uint8_t *page)
    int codec_is_patch(unsigned codec)

cdef extern from "group_cache.h" nogil:
    struct group_cache:
        pass
    size_t group_cache_give_back(group_cache *cache)

cdef extern from "group_codec.h" nogil:
    enum: GROUP_PAGES_MOST
    enum: GROUP_BYTES_MOST
    ctypedef struct group_encoder
    ctypedef struct group_decoder
    group_encoder *group_encoder_new(codec codec, int level, const codec_dictionary *dictionary)
    void group_encoder_free(group_encoder *encoder)
    size_t group_encode(group_encoder *encoder, const uint8_t *pages, unsigned count, uint8_t *out,
                        size_t capacity)
    group_decoder *group_decoder_new()
    void group_decoder_free(group_decoder *decoder)
    void group_decoder_use(group_decoder *decoder, const codec_dictionary *dictionary)
    unsigned group_decode(group_decoder *decoder, codec codec, const uint8_t *payload,
                          size_t length, unsigned count, unsigned wanted, uint8_t *pages)

cdef extern from "tables.h" nogil:
    enum: HINT_LEAST_WAYS
    enum: HINT_MOST_WAYS
    enum: HINT_FIRST_BUCKET_BITS
    enum: HINT_FIRST_ID_BITS
    enum: DIGEST_LAST_ID_BITS
    enum: DIGEST_CANDIDATES
    enum: SKETCH_LAST_ID_BITS
    struct hint_table:
        uint32_t *slots
        uint32_t bucket_bits
        uint32_t ways
        uint32_t id_bits
    size_t hint_table_slots(const hint_table *table)
    size_t hint_table_next_slots(const hint_table *table)
    unsigned digest_table_find(const hint_table *table, uint32_t digest, uint32_t *ids)
    int digest_table_insert(hint_table *table, uint32_t digest, uint32_t id)
    int digest_table_replace(hint_table *table, uint32_t digest, uint32_t former, uint32_t id)
    int digest_table_remove(hint_table *table, uint32_t digest, uint32_t id)
    uint32_t digest_table_digest(const hint_table *table, size_t slot)
    uint32_t digest_table_known_bits(const hint_table *table)
    uint32_t domain_key_mask(uint32_t domain)
    int digest_table_can_grow(const hint_table *table)
    size_t digest_table_grow(const hint_table *old, hint_table *new)
    uint32_t sketch_table_find(const hint_table *table, uint32_t feature)
    void sketch_table_put(hint_table *table, uint32_t feature, uint32_t id)
    void sketch_table_grow(const hint_table *old, hint_table *new)

cdef extern from "lmdb_check.h" nogil:
    struct lmdb_damage:
        uint64_t page
        const char *what
        int error
    void c_lmdb_check "lmdb_check"(int file, lmdb_damage *damage)

cdef extern from "mapped_files.h" nogil:
    int mapped_file_guard(void *start, size_t length, int writable)
    void mapped_file_release(int number)
    uint32_t mapped_file_missing(int number)

cdef extern from "number_set.h" nogil:
    enum: NUMBER_SET_NONE
    struct number_set:
        uint32_t count
    uint32_t number_set_next(const number_set *self, uint32_t first)

cdef extern from "extents.h" nogil:
    enum: C_EXTENT_SIDE_BYTES "EXTENT_SIDE_BYTES"
    enum: C_EXTENT_SLOTS "EXTENT_SLOTS"
    enum: C_HEADER_BYTES "HEADER_BYTES"
    enum: C_EXTENT_LIMIT "EXTENT_LIMIT"
    enum: ID_LOST
    enum: ID_ZERO
    enum: MAXIMUM_DEPTH
    struct header_prefix:
        uint32_t end
        uint32_t generation
        uint32_t domain
        uint8_t used
        uint8_t refined
    struct object_record:
        uint32_t place
        uint32_t kind
        uint32_t base
        uint32_t digest
    union extent_header:
        header_prefix prefix
        object_record records[255]
    cdef enum header_state:
        HEADER_CLEAN
        HEADER_COMMITTING
        HEADER_DIRTY
    struct extent_sums:
        uint64_t live
        uint64_t dead
        uint64_t emptied
        uint64_t objects
    struct extent_domain:
        uint32_t number
        uint32_t extents
        extent_sums sums
        uint64_t decoded
        uint64_t decode_nanoseconds
    struct extent:
        extent_header *header
        extent_domain *domain
        uint32_t live_bytes
        uint32_t end
        uint32_t generation
        uint16_t live_slots
        uint8_t in_use
        uint8_t state
    struct extent_totals:
        uint64_t objects[18]
        uint64_t bytes[18]
        uint64_t page_references[18]
        uint64_t pageless[18]
    struct extents:
        extent *array
        uint32_t count
        int file
        number_set free
        number_set loaded
        number_set dirty
        number_set flipped
        extent_sums sums
        extent_totals totals
        int has_domains
        group_cache groups
        uint64_t compared
        uint64_t members_read
        uint64_t members_decoded
        uint64_t refused
    cdef enum read_status:
        READ_OK
        READ_HEADER_MISSING
        READ_NO_OBJECT
        READ_STALE
        READ_LOST
    struct object_snapshot:
        object_record record
        uint32_t id
        uint32_t epoch
    struct read_result:
        read_status status
        uint32_t culprit
        int error
        unsigned codec
    cdef enum choice_kind:
        pass
    struct release_result:
        int freed
        int is_group
        uint32_t digest
        uint32_t domain
        uint32_t base
    unsigned record_codec(const object_record *record)
    int record_is_group(const object_record *record)
    int record_is_member(const object_record *record)
    uint32_t record_members(const object_record *record)
    uint32_t record_members_made(const object_record *record)
    void record_set_group(object_record *record, unsigned codec, uint32_t offset, uint32_t length,
                          uint32_t members, uint32_t made)
    read_status extents_snapshot(extents *self, uint32_t id, object_snapshot *snapshot)
    read_result extents_read_snapshot(extents *self, codec_context *context,
                                      const object_snapshot *snapshot, uint8_t *page)
    int extents_join(extents *self, uint32_t id, uint32_t group, uint32_t page, uint32_t *left)
    void extents_note_refined(extents *self, uint32_t number, uint8_t tier)
    read_status extents_bytes_of(extents *self, uint32_t id, double *bytes, uint32_t *pages,
                                 uint32_t *culprit)
    int extents_init(extents *self)
    void extents_free(extents *self)
    int extents_grow(extents *self, uint32_t count)
    read_status extents_record(extents *self, uint32_t id, object_record *record)
    uint32_t record_length(const object_record *record)
    uint32_t record_page_references(const object_record *record)
    read_result extents_read(extents *self, codec_context *context, uint32_t id, uint8_t *page)
    struct extent_summary:
        uint32_t generation
        uint32_t domain
        uint32_t end
        uint32_t live_bytes
        uint8_t live_slots
    enum: SUMMARY_BYTES
    void header_summarise(const extent_header *header, extent_summary *summary)
    int extents_account(extents *self, uint32_t number, const extent_summary *summary)
    void extents_count(extents *self, const extent_header *header)
    int extents_load(extents *self, uint32_t number, const extent_header *header, header_state state)
    void extents_trim(extents *self, uint32_t limit)
    void extents_drop(extents *self, uint32_t number)
    int extents_install(extents *self, uint32_t number, const extent_header *header, int rewritten)
    void extents_begin_commit(extents *self, uint32_t number)
    void extents_end_commit(extents *self, uint32_t number, int succeeded)
    void extents_settle(extents *self, uint32_t number)
    void extents_added(extents *self, uint32_t id)
    void extents_discard(extents *self, uint32_t id)
    int extents_reference(extents *self, uint32_t id, int by_patch)
    int extents_release(extents *self, uint32_t id, int by_patch, release_result *result)
    choice_kind extents_choose(const extents *self, uint32_t domain, uint32_t dead_share_256,
                               uint32_t *number)
    uint32_t extents_deadest(const extents *self, uint32_t dead_share_256)
    void extents_leave_alone(extents *self, uint32_t number)
    void extents_tell_domain(extents *self, uint32_t number, extent_domain *told)
    void extents_count_decoded(extents *self, uint32_t id, uint64_t nanoseconds)
    size_t header_stored_bytes(const extent_header *header)
    cdef enum header_verdict:
        HEADER_SOUND
        HEADER_UNKNOWN
    header_verdict header_judge(const extent_header *header)
    int id_is_object(uint32_t id)

cdef extern from "router.h" nogil:
    enum: C_BATCH_PAGES "BATCH_PAGES"
    enum: ROUTE_PATCH
    enum: ROUTE_COMPRESS
    struct routing:
        int share
        sketch_kind sketch
        unsigned candidates
        unsigned minimum_votes
        uint32_t single_vote_run
        codec patch_codec
        int patch_level
        uint32_t patch_limit
        uint32_t patch_ratio
        uint32_t patch_sure_ratio
        unsigned maximum_depth
        codec compress_codec
        int compress_level
    struct routed:
        uint64_t digest
        uint32_t features[4]
        uint32_t identical_ids[4]
        uint32_t replaced_id
        uint32_t base_ids[2]
        uint32_t id
        uint32_t base_id
        uint32_t encode_nanoseconds
        int16_t twin
        uint8_t identical_count
        uint8_t votes[2]
        uint16_t length
        uint8_t feature_count
        uint8_t route
        uint8_t codec
        uint8_t depth
    struct batch:
        const uint8_t *pages
        uint32_t count
        uint32_t domain
        uint32_t key_mask
        routed routed[512]
        uint8_t *arena
    int routed_is_new(const routed *self)
    int routed_is_to_be_encoded(const routed *self)
    uint32_t batch_digest_key(const batch *self, const routed *routed)
    void batch_classify(batch *self, const routing *routing, uint32_t start, uint32_t end)
    void batch_propose(batch *self, const routing *routing, const hint_table *digests,
                       const hint_table *sketches)
    void batch_prefetch(const batch *self, const routing *routing, uint32_t index,
                        const hint_table *digests, const hint_table *sketches)
    void batch_route(batch *self, const routing *routing, extents *extents, codec_context *context,
                     uint32_t start, uint32_t end)
    uint32_t batch_pack(batch *self, uint32_t next, uint32_t extent, extent_header *header,
                        uint8_t *out, size_t capacity, size_t *written)
    void header_rewrite(const extent_header *header, const uint8_t *side, extent_header *staged,
                        uint8_t *out)

cdef extern from "<zstd.h>":
    const char *ZSTD_versionString()

cdef extern from "<lz4.h>":
    const char *LZ4_versionString()

cdef extern from "<lzma.h>":
    const char *lzma_version_string()

cdef extern from "<xxhash.h>":
    enum: XXH_VERSION_MAJOR
    enum: XXH_VERSION_MINOR
    enum: XXH_VERSION_RELEASE

cdef extern from "vcdiff.h" nogil:
    enum: VCDIFF_STREAM_OVERHEAD
    long vcdiff_to_stream(const uint8_t *patch, size_t length, uint8_t *out, size_t capacity)

# Pages that are decoded without letting the GIL go. Taking it again takes longer, when another
# thread has begun to run Python meanwhile.
cdef enum:
    SHORT_READ = 16


PAGE_SIZE = PAGE_BYTES
BATCH_PAGES = C_BATCH_PAGES
EXTENT_SIDE_BYTES = C_EXTENT_SIDE_BYTES
EXTENT_SLOTS = C_EXTENT_SLOTS
EXTENT_LIMIT = C_EXTENT_LIMIT
HEADER_BYTES = C_HEADER_BYTES
HEADER_SUMMARY_BYTES = SUMMARY_BYTES
DEPTH_LIMIT = MAXIMUM_DEPTH
FIRST_ID_BITS = HINT_FIRST_ID_BITS
DIGEST_ID_BITS = DIGEST_LAST_ID_BITS
SKETCH_ID_BITS = SKETCH_LAST_ID_BITS
GROUP_PAGES = GROUP_PAGES_MOST

cdef object NUMBER = array("I", [0])  # times n: room for n numbers


cdef uint64_t now_nanoseconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec


cdef inline bint is_page_mark(uint32_t id) noexcept nogil:
    """Whether a page with this id needs no object."""
    return id == 0 or id == ID_LOST or id == ID_ZERO


cdef const uint8_t *one_page(const uint8_t[::1] page) except NULL:
    if page.shape[0] != PAGE_BYTES:
        raise ValueError(f"a page has {PAGE_BYTES} bytes, not {page.shape[0]}")
    return &page[0]


def library_versions():
    """Of the C libraries that the kernels call, whether linked in or the system's."""
    return {
        "libzstd": ZSTD_versionString().decode(),
        "liblz4": LZ4_versionString().decode(),
        "liblzma": lzma_version_string().decode(),
        "xxHash": f"{XXH_VERSION_MAJOR}.{XXH_VERSION_MINOR}.{XXH_VERSION_RELEASE}",
    }


def same_word(const uint8_t[::1] page not None):
    """The 8-byte word that fills the page, or None."""
    cdef uint64_t word
    if page_is_same_filled(one_page(page), &word):
        return (<char *>&word)[:8]
    return None


def digest(const uint8_t[::1] page not None):
    return page_digest(one_page(page))


def checksum(const uint8_t[::1] payload not None):
    return payload_checksum(&payload[0] if payload.shape[0] else NULL, <size_t>payload.shape[0])


def binding(const uint8_t[::1] identity not None, const uint8_t[::1] value not None):
    """XXH3-64 of the value, seeded with XXH3-64 of the identity."""
    cdef const uint8_t *value_bytes = &value[0] if value.shape[0] else NULL
    return value_binding(&identity[0], <size_t>identity.shape[0], value_bytes,
                         <size_t>value.shape[0])


def lmdb_damage_of(int file):
    """What is wrong with an open LMDB file, or None; OSError when it cannot be read."""
    cdef lmdb_damage damage
    with nogil:
        c_lmdb_check(file, &damage)
    if damage.what == NULL:
        return None
    if damage.error:
        raise OSError(damage.error, os.strerror(damage.error))
    return f"page {damage.page} {damage.what.decode()}"


cdef class GuardedMap:
    """Keeps SIGBUS from ending the process where a mapped file has been cut: zeros are read there,
    and `missing` counts such pages. To be released before the file is unmapped. (Where there are
    too many, one is not guarded.)"""
    cdef int number

    def __cinit__(self, size_t start, size_t length, bint writable):
        self.number = mapped_file_guard(<void *>start, length, writable)

    @property
    def missing(self):
        return mapped_file_missing(self.number)

    def release(self):
        mapped_file_release(self.number)
        self.number = -1

    def __dealloc__(self):
        mapped_file_release(self.number)


def address_of(const uint8_t[::1] buffer not None):
    """Where a buffer's bytes are."""
    return <size_t>&buffer[0]


def sketch(int kind, const uint8_t[::1] page not None):
    cdef uint32_t features[4]
    cdef unsigned count = page_sketch(<sketch_kind>kind, one_page(page), features)
    return tuple([features[i] for i in range(count)])


def common_run(const uint8_t[::1] page not None, const uint8_t[::1] base not None):
    return page_common_run(one_page(page), one_page(base))


def domain_mask(uint32_t domain):
    """What is XORed to digests and features of a domain where they are keys of hint tables."""
    return domain_key_mask(domain)


def train_dictionary(const uint8_t[::1] pages not None, size_t capacity, int level):
    """A zstd dictionary of at most `capacity` bytes for pages like these, or None."""
    cdef unsigned count = <unsigned>(pages.shape[0] // PAGE_BYTES)
    cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>capacity)
    cdef uint8_t *out_bytes = <uint8_t *>PyBytes_AsString(out)
    cdef size_t length
    if count == 0:
        return None
    with nogil:
        length = codec_dictionary_train(&pages[0], count, out_bytes, capacity, level)
    return out[:length] if length else None


cdef class Dictionary:
    """A zstd dictionary, digested; contexts share it."""
    cdef codec_dictionary *native
    cdef readonly bytes content
    cdef readonly bint can_encode

    def __cinit__(self, bytes content not None, level=1):
        """Of a `level` of zstd; None: for decoding only."""
        self.content = content
        self.can_encode = level is not None
        self.native = codec_dictionary_new(<const uint8_t *>PyBytes_AsString(content),
                                           <size_t>len(content),
                                           DECODING_ONLY if level is None else level)
        if self.native == NULL:
            raise ValueError(f"{len(content)} bytes that are no zstd dictionary")

    def __dealloc__(self):
        codec_dictionary_free(self.native)


cdef class Context:
    """Reused codec contexts; one thread at a time."""
    cdef codec_context *native
    cdef Dictionary dictionary
    cdef Dictionary group_dictionary

    def __cinit__(self):
        self.native = codec_context_new()
        if self.native == NULL:
            raise MemoryError("codec contexts")

    def __dealloc__(self):
        codec_context_free(self.native)

    def use(self, Dictionary dictionary not None):
        """Lets the context encode and decode with a dictionary."""
        if not dictionary.can_encode:
            raise ValueError("the dictionary is for decoding only")
        codec_context_use(self.native, dictionary.native)
        self.dictionary = dictionary

    def use_for_groups(self, Dictionary dictionary not None):
        """Lets what reads with the context decode groups that need a dictionary."""
        codec_context_use_for_groups(self.native, dictionary.native)
        self.group_dictionary = dictionary

    def encode(self, int kind, const uint8_t[::1] page not None, const uint8_t[::1] base=None,
               int level=1, size_t limit=PAGE_BYTES):
        cdef const uint8_t *page_bytes = one_page(page)
        cdef const uint8_t *base_bytes = NULL
        cdef uint8_t out[4096]
        cdef size_t length
        if base is not None:
            base_bytes = one_page(base)
        if limit > PAGE_BYTES:
            limit = PAGE_BYTES
        with nogil:
            length = codec_encode(self.native, <codec>kind, level, page_bytes, base_bytes, out,
                                  limit)
        return None if length == 0 else PyBytes_FromStringAndSize(<char *>out, <Py_ssize_t>length)

    def decode(self, int kind, const uint8_t[::1] payload not None, const uint8_t[::1] base=None):
        cdef const uint8_t *base_bytes = NULL
        cdef const uint8_t *payload_bytes
        cdef bytes page = PyBytes_FromStringAndSize(NULL, PAGE_BYTES)
        cdef uint8_t *out = <uint8_t *>PyBytes_AsString(page)
        cdef size_t length = <size_t>payload.shape[0]
        cdef int failed
        if length == 0:
            raise ValueError("an empty payload")
        payload_bytes = &payload[0]
        if base is not None:
            base_bytes = one_page(base)
        with nogil:
            failed = codec_decode(self.native, <codec>kind, payload_bytes, length, base_bytes, out)
        if failed:
            raise ValueError(f"malformed payload of {length} bytes (codec {kind})")
        return page


cdef Context vcdiff_context = Context()


def vcdiff_encode(page, base, size_t limit=PAGE_BYTES):
    """The VCDIFF patch of at most `limit` bytes that turns base into page, or None."""
    return vcdiff_context.encode(CODEC_VCDIFF, page, base, 0, limit)


def vcdiff_decode(patch, base):
    """The page; ValueError when the patch is malformed."""
    return vcdiff_context.decode(CODEC_VCDIFF, patch, base)


def vcdiff_stream(const uint8_t[::1] patch not None):
    """The whole RFC 3284 stream of a patch, for other tools."""
    cdef size_t length = <size_t>patch.shape[0]
    cdef size_t capacity = length + VCDIFF_STREAM_OVERHEAD
    cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>capacity)
    cdef long written = -1
    if length:
        written = vcdiff_to_stream(&patch[0], length, <uint8_t *>PyBytes_AsString(out), capacity)
    if written < 0:
        raise ValueError("malformed VCDIFF patch")
    return out[:written]


cdef int hint_table_in(hint_table *table, uint8_t[::1] buffer, uint32_t id_bits,
                       uint32_t last_id_bits) except -1:
    """Puts a table in a caller's buffer, whose length tells buckets and ways."""
    cdef uint64_t size = <uint64_t>buffer.shape[0]
    cdef uint32_t bits = HINT_FIRST_BUCKET_BITS
    while bits < 26 and <uint64_t>(4 * HINT_LEAST_WAYS) << (bits + 1) <= size:
        bits += 1
    cdef uint64_t ways = size >> (bits + 2)
    if ways << (bits + 2) != size or not HINT_LEAST_WAYS <= ways <= HINT_MOST_WAYS:
        raise ValueError(f"a hint table of {size} bytes")
    if not HINT_FIRST_ID_BITS <= id_bits <= last_id_bits:
        raise ValueError(f"a hint table with ids of {id_bits} bits")
    table.slots = <uint32_t *>&buffer[0]
    table.bucket_bits = bits
    table.ways = <uint32_t>ways
    table.id_bits = id_bits
    return 0


cdef class DigestTable:
    """Digest -> object ids in a caller's buffer: 2 ** n buckets of 8 to 15 slots of 4 bytes. It
    knows `known_bits` of a digest, and may propose objects that differ in the others."""
    cdef hint_table native
    cdef uint8_t[::1] buffer
    cdef readonly object used

    def __cinit__(self, uint8_t[::1] buffer not None, used=0, uint32_t id_bits=HINT_FIRST_ID_BITS):
        hint_table_in(&self.native, buffer, id_bits, DIGEST_LAST_ID_BITS)
        self.buffer = buffer
        self.used = used

    @property
    def slots(self):
        return hint_table_slots(&self.native) if self.native.slots != NULL else 0

    @property
    def next_slots(self):
        """The number of slots at the next size; 0: there is none."""
        return hint_table_next_slots(&self.native) if digest_table_can_grow(&self.native) else 0

    @property
    def id_bits(self):
        return self.native.id_bits

    @property
    def known_bits(self):
        return digest_table_known_bits(&self.native)

    def release_buffer(self):
        self.native.slots = NULL
        self.buffer = None

    def find(self, uint32_t digest):
        """Objects that may have the digest; the right one is among them, if any."""
        cdef uint32_t ids[DIGEST_CANDIDATES]
        cdef unsigned count = digest_table_find(&self.native, digest, ids)
        return [ids[i] for i in range(count)]

    def insert(self, uint32_t digest, uint32_t id):
        cdef int taken = digest_table_insert(&self.native, digest, id)
        if taken > 0:
            self.used += 1
        return taken >= 0

    def replace(self, uint32_t digest, uint32_t former, uint32_t id):
        """Puts an object in the place of another one with this digest; False: that is not there."""
        return bool(digest_table_replace(&self.native, digest, former, id))

    def remove(self, uint32_t digest, uint32_t id):
        cdef int gone = digest_table_remove(&self.native, digest, id)
        self.used -= gone
        return bool(gone)

    def pairs(self):
        """(digest, object id) of every entry; the digest's unknown bits are 0."""
        cdef size_t i
        cdef uint32_t id
        result = []
        for i in range(self.slots):
            id = self.native.slots[i] & ((<uint32_t>1 << self.native.id_bits) - 1)
            if id:
                result.append((digest_table_digest(&self.native, i), id))
        return result

    def grow_into(self, uint8_t[::1] buffer not None):
        """A table of next_slots slots in a buffer of zeros, with what this one knows."""
        if not self.next_slots or <uint64_t>buffer.shape[0] != 4 * self.next_slots:
            raise ValueError("the buffer has not the next size")
        cdef DigestTable other = DigestTable(buffer)
        cdef size_t lost
        with nogil:
            lost = digest_table_grow(&self.native, &other.native)
        other.used = self.used - lost
        return other

    def insert_header(self, uint32_t number, const uint8_t[::1] header not None):
        """Inserts every object of an extent header; False when the table is too small."""
        cdef extent_header copy
        cdef unsigned slot
        cdef int taken
        copy_header(header, &copy)
        cdef uint32_t mask = domain_key_mask(copy.prefix.domain)
        for slot in range(1, C_EXTENT_SLOTS + 1):
            if record_codec(&copy.records[slot]) and not record_is_group(&copy.records[slot]):
                taken = digest_table_insert(&self.native, copy.records[slot].digest ^ mask,
                                            (number << 8) | slot)
                if taken < 0:
                    return False
                self.used += taken
        return True


cdef class SketchTable:
    """Feature -> newest object id in a caller's buffer: 2 ** n buckets of 8 to 15 slots of 4
    bytes."""
    cdef hint_table native
    cdef uint8_t[::1] buffer

    def __cinit__(self, uint8_t[::1] buffer not None, uint32_t id_bits=HINT_FIRST_ID_BITS):
        hint_table_in(&self.native, buffer, id_bits, SKETCH_LAST_ID_BITS)
        self.buffer = buffer

    @property
    def slots(self):
        return hint_table_slots(&self.native) if self.native.slots != NULL else 0

    @property
    def next_slots(self):
        return hint_table_next_slots(&self.native)

    @property
    def id_bits(self):
        return self.native.id_bits

    def release_buffer(self):
        self.native.slots = NULL
        self.buffer = None

    def find(self, uint32_t feature):
        return sketch_table_find(&self.native, feature) if self.native.slots != NULL else 0

    def put(self, uint32_t feature, uint32_t id):
        if self.native.slots != NULL:
            sketch_table_put(&self.native, feature, id)

    def grow_into(self, uint8_t[::1] buffer not None):
        """A table of next_slots slots in a buffer of zeros, with what this one knows."""
        if <uint64_t>buffer.shape[0] != 4 * hint_table_next_slots(&self.native):
            raise ValueError("the buffer has not the next size")
        cdef SketchTable other = SketchTable(buffer)
        with nogil:
            sketch_table_grow(&self.native, &other.native)
        return other


class UnknownCodec(ValueError):
    """An extent header that only a newer difffs can read."""


cdef int copy_header(const uint8_t[::1] stored, extent_header *header) except -1:
    """A stored header is cut behind its highest used slot; the rest is zeros."""
    cdef size_t length = <size_t>stored.shape[0]
    cdef header_verdict verdict
    if length < 16 or length > C_HEADER_BYTES or length % 16:
        raise ValueError(f"an extent header of {length} bytes")
    memset(header, 0, C_HEADER_BYTES)
    memcpy(header, &stored[0], length)
    if header_stored_bytes(header) != length:
        raise ValueError(f"an extent header of {length} bytes")
    verdict = header_judge(header)
    if verdict == HEADER_UNKNOWN:
        raise UnknownCodec("an extent header with a codec that this version does not know")
    if verdict != HEADER_SOUND:
        raise ValueError("an extent header that contradicts itself")
    return 0


def header_summary(const uint8_t[::1] stored not None):
    """What an extent is known by without its header: generation, domain, end, live bytes (4 bytes
    each) and live slots (1). ValueError when the header is damaged."""
    cdef extent_header header
    cdef extent_summary summary
    copy_header(stored, &header)
    header_summarise(&header, &summary)
    return (<char *>&summary)[:SUMMARY_BYTES]


cdef class Extents:
    """Extent headers in memory, and the objects that they describe. See native/extents.h.

    Lock rule: `read` may run on any thread with the store's lock held; everything that changes
    records runs on the routing thread with the store's lock held.
    """
    cdef extents native
    cdef bint ready
    cdef uint64_t decoded[CODEC_ROOM]
    cdef uint64_t decode_nanoseconds[CODEC_ROOM]

    def __cinit__(self, int file):
        if extents_init(&self.native):
            raise MemoryError("extents")
        self.ready = True
        self.native.file = file

    @property
    def decode_totals(self):
        """Per codec (objects decoded, nanoseconds)."""
        return [(self.decoded[k], self.decode_nanoseconds[k]) for k in range(CODEC_COUNT)]

    def __dealloc__(self):
        if self.ready:
            extents_free(&self.native)

    @property
    def count(self):
        return self.native.count

    @property
    def loaded(self):
        return self.native.loaded.count

    cdef int copy_header_of(self, uint32_t number, const uint8_t[::1] stored,
                            extent_header *header) except -1:
        if not 0 < number < C_EXTENT_LIMIT:
            raise ValueError(f"an extent header with the number {number}")
        return copy_header(stored, header)

    def account(self, uint32_t number, const uint8_t[::1] stored not None):
        """Makes an extent known by its summary while a store is opened; ValueError when that is
        damaged. Its objects are counted by set_totals or count."""
        cdef extent_summary summary
        if stored.shape[0] != SUMMARY_BYTES or not 0 < number < C_EXTENT_LIMIT:
            raise ValueError(f"a summary of {stored.shape[0]} bytes, of extent {number}")
        memset(&summary, 0, sizeof(summary))
        memcpy(&summary, &stored[0], SUMMARY_BYTES)
        if (summary.live_bytes > summary.end or summary.end > C_EXTENT_SIDE_BYTES or
                summary.live_slots > C_EXTENT_SLOTS):
            raise ValueError("a summary that contradicts itself")
        if extents_grow(&self.native, number + 1):
            raise MemoryError("extents")
        if extents_account(&self.native, number, &summary):
            raise MemoryError("extents")

    def count_objects(self, const uint8_t[::1] stored not None):
        """Counts a header's objects into the totals."""
        cdef extent_header header
        copy_header(stored, &header)
        extents_count(&self.native, &header)

    def set_totals(self, totals):
        """What `totals` tells from here on; codecs that are left out count nothing."""
        cdef unsigned i
        if len(totals) > CODEC_COUNT:
            raise UnknownCodec(f"objects of {len(totals)} codecs, more than this version knows")
        memset(&self.native.totals, 0, sizeof(self.native.totals))
        for i, (objects, size, references, pageless) in enumerate(totals):
            self.native.totals.objects[i] = objects
            self.native.totals.bytes[i] = size
            self.native.totals.page_references[i] = references
            self.native.totals.pageless[i] = pageless

    cdef int must_agree(self, uint32_t number, const extent_header *header) except -1:
        """The header of a known extent belongs to what is known of it."""
        cdef extent_summary summary
        cdef extent *e
        if number >= self.native.count or not self.native.array[number].in_use:
            return 0
        e = &self.native.array[number]
        header_summarise(header, &summary)
        if (summary.generation != e.generation or summary.end != e.end or
                summary.live_bytes != e.live_bytes or summary.live_slots != e.live_slots or
                summary.domain != e.domain.number):
            raise ValueError("an extent header that contradicts its summary")
        return 0

    def load(self, uint32_t number, const uint8_t[::1] stored not None):
        cdef extent_header header
        self.copy_header_of(number, stored, &header)
        self.must_agree(number, &header)
        if extents_load(&self.native, number, &header, HEADER_CLEAN):
            raise MemoryError("extent header")

    cdef int must_be_loaded(self, uint32_t number) except -1:
        if number >= self.native.count or self.native.array[number].header == NULL:
            raise ValueError(f"the header of extent {number} is not in memory")
        return 0

    def is_loaded(self, uint32_t number):
        return number < self.native.count and self.native.array[number].header != NULL

    def in_use(self, uint32_t number):
        return number < self.native.count and bool(self.native.array[number].in_use)

    def summary(self, uint32_t number):
        """(side, end, live bytes, live slots) of an extent."""
        if number >= self.native.count:
            raise IndexError(number)
        cdef extent *e = &self.native.array[number]
        return e.generation & 1, e.end, e.live_bytes, e.live_slots

    def keep_domains(self):
        """Counts decoding by domain from here on; before any other thread reads."""
        self.native.has_domains = 1

    def domain_of(self, uint32_t number):
        """The domain of an extent in use."""
        if not self.in_use(number):
            raise IndexError(number)
        return self.native.array[number].domain.number

    def domain_totals(self, uint32_t domain):
        """(extents, objects, payload bytes, dead bytes, objects decoded, nanoseconds) of a domain;
        of domain 0, decoding is not counted."""
        cdef extent_domain told
        extents_tell_domain(&self.native, domain, &told)
        return (told.extents, told.sums.objects, told.sums.live,
                told.sums.dead + told.sums.emptied, told.decoded, told.decode_nanoseconds)

    @property
    def compared(self):
        """Stored pages that routing has read, to share them or as bases."""
        return load_count(&self.native.compared)

    def give_back_memory(self):
        """Gives the system the memory of decoded groups, unless one was read since this was called
        last; how many bytes."""
        cdef size_t given
        with nogil:
            given = group_cache_give_back(&self.native.groups)
        return given

    @property
    def members_read(self):
        """(pages of groups that were read, pages decoded for that)."""
        return load_count(&self.native.members_read), load_count(&self.native.members_decoded)

    @property
    def refused(self):
        """Objects that were proposed to routing and are of another domain."""
        return load_count(&self.native.refused)

    def trim(self, uint32_t limit):
        extents_trim(&self.native, limit)

    def drop(self, uint32_t number):
        if number >= self.native.count:
            raise IndexError(number)
        extents_drop(&self.native, number)

    def live_bytes(self):
        cdef uint64_t total = 0
        cdef unsigned i
        for i in range(CODEC_COUNT):
            total += self.native.totals.bytes[i]
        return total

    def totals(self):
        """Per codec (objects, payload bytes, references by pages, objects without any)."""
        cdef unsigned i
        return [(self.native.totals.objects[i], self.native.totals.bytes[i],
                 self.native.totals.page_references[i], self.native.totals.pageless[i])
                for i in range(CODEC_COUNT)]

    def begin_commit(self):
        """The dirty headers as (number, bytes to store), now `committing`; empty ones as None."""
        cdef uint32_t number = number_set_next(&self.native.dirty, 0)
        cdef extent *e
        result = []
        while number != NUMBER_SET_NONE:
            e = &self.native.array[number]
            if e.state == HEADER_DIRTY:
                extents_begin_commit(&self.native, number)
                if e.live_slots == 0:
                    result.append((number, None))
                else:
                    result.append((number, PyBytes_FromStringAndSize(
                        <char *>e.header, <Py_ssize_t>header_stored_bytes(e.header))))
            number = number_set_next(&self.native.dirty, number + 1)
        return result

    def end_commit(self, bint succeeded):
        """Settles what begin_commit handed out. Returns the extents whose old side is free now."""
        cdef uint32_t number = number_set_next(&self.native.dirty, 0)
        flipped = []
        while number != NUMBER_SET_NONE:
            extents_end_commit(&self.native, number, succeeded)
            number = number_set_next(&self.native.dirty, number + 1)
        if not succeeded:
            return flipped
        number = number_set_next(&self.native.flipped, 0)
        while number != NUMBER_SET_NONE:
            if self.native.array[number].state != HEADER_DIRTY:
                extents_settle(&self.native, number)
                flipped.append((number, (self.native.array[number].generation & 1) ^ 1))
            number = number_set_next(&self.native.flipped, number + 1)
        return flipped

    def dirty_count(self):
        """Headers that no finished commit holds as they are now."""
        return self.native.dirty.count

    def missing(self, const uint32_t[::1] ids not None):
        """Extents whose headers must be loaded to read the objects, as far as is known yet."""
        cdef Py_ssize_t i
        cdef uint32_t id
        cdef unsigned depth
        cdef read_status status
        cdef object_record record
        needed = set()
        for i in range(ids.shape[0]):
            id = ids[i]
            for depth in range(MAXIMUM_DEPTH + 1):
                if not id_is_object(id):
                    break
                status = extents_record(&self.native, id, &record)
                if status == READ_HEADER_MISSING:
                    needed.add(id >> 8)
                if status != READ_OK:
                    break
                id = record.base
        return needed

    cdef Py_ssize_t decode_all(self, const uint32_t *ids, Py_ssize_t count, uint8_t *out,
                               Context context, read_result *result, uint64_t *decoded,
                               uint64_t *nanoseconds) noexcept nogil:
        """Decodes pages until one fails, and counts them by codec. Returns how many."""
        cdef Py_ssize_t i
        cdef uint64_t ended
        cdef uint64_t began = now_nanoseconds()
        for i in range(count):
            if ids[i] == 0 or ids[i] == ID_ZERO:
                memset(out + i * PAGE_BYTES, 0, PAGE_BYTES)
                continue
            if ids[i] == ID_LOST:
                memset(result, 0, sizeof(read_result))
                result.status = READ_LOST
                result.culprit = ID_LOST
                return i
            result[0] = extents_read(&self.native, context.native, ids[i], out + i * PAGE_BYTES)
            if result.status != READ_OK:
                return i
            ended = now_nanoseconds()
            decoded[result.codec] += 1
            nanoseconds[result.codec] += ended - began
            extents_count_decoded(&self.native, ids[i], ended - began)
            began = ended
        return count

    cdef object read_ids(self, const uint32_t *ids, Py_ssize_t count, uint8_t *out,
                         Context context):
        cdef Py_ssize_t done
        cdef read_result result
        cdef uint64_t decoded[CODEC_ROOM]
        cdef uint64_t nanoseconds[CODEC_ROOM]
        if count <= SHORT_READ:
            done = self.decode_all(ids, count, out, context, &result, self.decoded,
                                   self.decode_nanoseconds)
        else:  # two threads may read at a time: both count for themselves
            memset(decoded, 0, sizeof(decoded))
            memset(nanoseconds, 0, sizeof(nanoseconds))
            with nogil:
                done = self.decode_all(ids, count, out, context, &result, decoded, nanoseconds)
            for k in range(CODEC_COUNT):
                self.decoded[k] += decoded[k]
                self.decode_nanoseconds[k] += nanoseconds[k]
        if done != count:
            return <int>result.status, done, result.culprit, result.error
        return None

    def read(self, const uint32_t[::1] ids not None, uint8_t[::1] out not None,
             Context context not None):
        """Decodes objects into out, a page each; holes and zeros give zeros.

        Returns None, or (status, index, culprit, errno) of the first that failed.
        """
        cdef Py_ssize_t count = ids.shape[0]
        if out.shape[0] < count * PAGE_BYTES:
            raise ValueError("the buffer is too small")
        if count == 0:
            return None
        return self.read_ids(&ids[0], count, &out[0], context)

    def read_mapped(self, TableChunks chunks not None, uint32_t volume, uint64_t first,
                    uint8_t[::1] out not None, Py_ssize_t at, Py_ssize_t count,
                    Context context not None):
        """Like read, for `count` pages of a volume from `first` on, all of one chunk in memory, into
        page `at` of out. The store's lock must be held."""
        cdef uint64_t entry = first % TABLE_ENTRIES_NATIVE
        cdef uint32_t ids[TABLE_ENTRIES_NATIVE]
        cdef table_chunk *chunk
        if (at < 0 or count < 1 or out.shape[0] < (at + count) * PAGE_BYTES or
                entry + <uint64_t>count > TABLE_ENTRIES_NATIVE):
            raise ValueError("the buffer is too small, or pages of two chunks")
        chunk = chunks.must_find(volume, <uint32_t>(first // TABLE_ENTRIES_NATIVE))
        pthread_rwlock_rdlock(&chunks.lock)
        memcpy(ids, chunk_ids(chunk) + entry, 4 * <size_t>count)
        pthread_rwlock_unlock(&chunks.lock)
        return self.read_ids(ids, count, &out[at * PAGE_BYTES], context)

    def reference(self, const uint32_t[::1] ids not None, bint by_patch):
        """One more reference to each; headers must be loaded. ValueError names a wrong id."""
        cdef Py_ssize_t i
        for i in range(ids.shape[0]):
            if not is_page_mark(ids[i]):
                if extents_reference(&self.native, ids[i], by_patch):
                    raise ValueError(f"object {ids[i]:#x} cannot be referred to")

    def release(self, const uint32_t[::1] ids not None, bint by_patch, DigestTable digests not None):
        """One reference less of each; headers must be loaded.

        Frees what nothing refers to. Returns the bases of freed patches and the groups of freed
        members, to be released in turn with by_patch. ValueError names an id that holds no such
        reference.
        """
        cdef Py_ssize_t i
        cdef release_result result
        bases = array("I")
        wrong = None
        for i in range(ids.shape[0]):
            if is_page_mark(ids[i]):
                continue
            if extents_release(&self.native, ids[i], by_patch, &result) and wrong is None:
                wrong = ids[i]
            if result.freed:
                if not result.is_group:
                    digests.remove(result.digest ^ domain_key_mask(result.domain), ids[i])
                if result.base:
                    bases.append(result.base)
        if wrong is not None:
            raise ValueError(f"object {wrong:#x} has no such reference")
        return bases

    def shares(self, const uint32_t[::1] ids not None):
        """(total, missing): bytes of the objects' payloads, each divided by the pages that refer to
        it, once for each id; a member's are its part of the group's. Holes and zeros count nothing,
        and what lacks a header neither: these extents are missing."""
        cdef Py_ssize_t i
        cdef double total = 0
        cdef double stored
        cdef uint32_t pages, culprit
        cdef read_status status
        missing = set()
        with nogil:
            for i in range(ids.shape[0]):
                status = extents_bytes_of(&self.native, ids[i], &stored, &pages, &culprit)
                if status == READ_OK:
                    total += stored / <double>(pages if pages else 1)
                elif status == READ_HEADER_MISSING:
                    with gil:
                        missing.add(culprit >> 8)
        return total, missing

    def to_refine(self, uint32_t number, int kind, bint fresh, bint sparse):
        """(ids, missing): the objects of an extent that are worth a try with groups of codec `kind`.
        These are, where they are `fresh`, those in no group, and in one of zstd when `kind` is LZMA;
        where `sparse`, those of groups in which an eighth of the members or more are gone. Objects
        that no page refers to are left to the patches that keep them. `missing` are extents whose
        headers must be loaded before another try; this one's is."""
        self.must_be_loaded(number)
        cdef extent_header *header = self.native.array[number].header
        cdef object_record *record
        cdef object_record group
        cdef read_status status
        cdef unsigned slot, made
        cdef bint wanted
        found = array("I")
        missing = set()
        for slot in range(1, header.prefix.used + 1):
            record = &header.records[slot]
            if (not record_codec(record) or record_codec(record) == CODEC_SAME or
                    record_is_group(record) or record_page_references(record) == 0):
                continue
            wanted = fresh
            if record_is_member(record):
                status = extents_record(&self.native, record.base, &group)
                if status == READ_HEADER_MISSING:
                    missing.add(record.base >> 8)
                if status != READ_OK:
                    continue
                made = record_members_made(&group)
                wanted = (sparse and 8 * (made - record_members(&group)) >= made) or (
                    fresh and kind == CODEC_GROUP_LZMA and
                    record_codec(&group) != CODEC_GROUP_LZMA)
            if wanted:
                found.append((number << 8) | slot)
        return found, missing

    def refined(self, uint32_t number):
        """The tier that refining has noted of an extent. Its header is loaded."""
        self.must_be_loaded(number)
        return self.native.array[number].header.prefix.refined

    def note_refined(self, uint32_t number, uint8_t tier):
        """Notes it; on the routing thread."""
        self.must_be_loaded(number)
        extents_note_refined(&self.native, number, tier)

    def added_group(self, uint32_t id):
        """Accounts a group that was installed."""
        extents_added(&self.native, id)

    def discard(self, const uint32_t[::1] ids not None):
        cdef Py_ssize_t i
        for i in range(ids.shape[0]):
            extents_discard(&self.native, ids[i])

    def choose(self, uint32_t dead_share_256, uint32_t domain=0):
        """(kind, number) for packing pages of a domain: 0 a new extent, 1 append to one, 2 rewrite
        one."""
        cdef uint32_t number = 0
        cdef choice_kind kind
        with nogil:
            kind = extents_choose(&self.native, domain, dead_share_256, &number)
        return <int>kind, number

    def deadest(self, uint32_t dead_share_256):
        """An extent of any domain that is worth to be rewritten, or 0."""
        return extents_deadest(&self.native, dead_share_256)

    def leave_alone(self, uint32_t number):
        """An extent's side cannot be read: nothing is put there, and it is not rewritten."""
        extents_leave_alone(&self.native, number)

    def emptied_bytes(self):
        """Bytes of the extents that hold nothing any more: the next commit gives them back."""
        return self.native.sums.emptied

    def unused(self):
        """The lowest extent number that is free; they begin at 1."""
        cdef uint32_t number = number_set_next(&self.native.free, 1)
        return max(1, self.native.count) if number == NUMBER_SET_NONE else number


cdef class Staged:
    """A header being filled, with the payload bytes that go behind `position` of its side."""
    cdef extent_header header
    cdef readonly uint32_t number
    cdef uint8_t *out
    cdef readonly size_t written
    cdef readonly uint32_t position   # where `written` bytes belong in the side
    cdef readonly bint rewritten   # whether it begins the other side of an extent in use

    def __cinit__(self):
        self.out = <uint8_t *>malloc(C_EXTENT_SIDE_BYTES)
        if self.out == NULL:
            raise MemoryError("staging")

    def __dealloc__(self):
        free(self.out)

    def new(self, uint32_t number, uint32_t domain=0):
        memset(&self.header, 0, C_HEADER_BYTES)
        self.header.prefix.domain = domain
        self.number = number
        self.written = 0
        self.position = 0
        self.rewritten = False

    def append(self, Extents extents not None, uint32_t number):
        """Goes on behind what the extent holds; its header must be loaded."""
        extents.must_be_loaded(number)
        self.header = extents.native.array[number].header[0]
        self.number = number
        self.written = 0
        self.position = self.header.prefix.end
        self.rewritten = False

    def rewrite(self, Extents extents not None, uint32_t number, const uint8_t[::1] side not None):
        """Begins the extent's other side with its live payloads, closed up."""
        extents.must_be_loaded(number)
        cdef extent_header *old = extents.native.array[number].header
        if <uint32_t>side.shape[0] < old.prefix.end:
            raise ValueError(f"extent {number} ends at byte {side.shape[0]} of {old.prefix.end}")
        header_rewrite(old, &side[0], &self.header, self.out)
        self.number = number
        self.written = self.header.prefix.end
        self.position = 0
        self.rewritten = True

    cdef unsigned free_slot(self) noexcept:
        """The first one, or one too many."""
        cdef unsigned slot = 1
        while slot <= C_EXTENT_SLOTS and record_codec(&self.header.records[slot]):
            slot += 1
        return slot

    def has_room(self, size_t length):
        """For one more payload of that length."""
        return (self.header.prefix.end + length <= C_EXTENT_SIDE_BYTES and
                self.free_slot() <= C_EXTENT_SLOTS)

    def put_group(self, Group group not None):
        """Adds a group without members yet, for which there is room. Returns its id."""
        cdef unsigned slot = self.free_slot()
        cdef object_record *record
        if not self.has_room(group.length) or group.length == 0:
            raise ValueError("no room for the group")
        record = &self.header.records[slot]
        record_set_group(record, <unsigned>group.kind, self.header.prefix.end,
                         <uint32_t>group.length, 0, group.native_count)
        record.base = 0
        record.digest = payload_checksum(group.payload, group.length)
        memcpy(self.out + self.written, group.payload, group.length)
        self.written += group.length
        self.header.prefix.end += <uint32_t>group.length
        if slot > self.header.prefix.used:
            self.header.prefix.used = <uint8_t>slot
        return (self.number << 8) | slot

    @property
    def side(self):
        return self.header.prefix.generation & 1

    def bytes(self):
        return <uint8_t[:self.written]>self.out if self.written else b""

    def install(self, Extents extents not None):
        """Makes the staged header the extent's."""
        if extents_install(&extents.native, self.number, &self.header, self.rewritten):
            raise MemoryError("extent header")


cdef class GroupEncoder:
    """What encoding groups takes; one thread at a time."""
    cdef group_encoder *native
    cdef readonly int codec
    cdef Dictionary dictionary

    def __cinit__(self, int kind, int level=1, Dictionary dictionary=None):
        if not codec_is_group(<unsigned>kind):
            raise ValueError(f"codec {kind} is of no group")
        if (kind == CODEC_GROUP_DICTIONARY) != (dictionary is not None and dictionary.can_encode):
            raise ValueError(f"codec {kind} and a dictionary do not go together")
        self.codec = kind
        self.dictionary = dictionary
        self.native = group_encoder_new(<codec>kind, level,
                                        NULL if dictionary is None else dictionary.native)
        if self.native == NULL:
            raise MemoryError("group encoder")

    def __dealloc__(self):
        group_encoder_free(self.native)

    def encode(self, const uint8_t[::1] pages not None):
        """The payload of up to 64 pages; None when it would be as long as they are."""
        cdef Py_ssize_t count = pages.shape[0] // PAGE_BYTES
        cdef size_t length
        if not 0 < count <= GROUP_PAGES_MOST or count * PAGE_BYTES != pages.shape[0]:
            raise ValueError(f"a group is 1 to {GROUP_PAGES_MOST} whole pages")
        out = bytearray(count * PAGE_BYTES)
        cdef uint8_t[::1] room = out
        with nogil:
            length = group_encode(self.native, &pages[0], <unsigned>count, &room[0],
                                  <size_t>(count * PAGE_BYTES))
        return bytes(out[:length]) if length else None


cdef class GroupDecoder:
    """What decoding groups takes; one thread at a time."""
    cdef group_decoder *native
    cdef Dictionary dictionary

    def __cinit__(self, Dictionary dictionary=None):
        self.native = group_decoder_new()
        if self.native == NULL:
            raise MemoryError("group decoder")
        if dictionary is not None:
            self.dictionary = dictionary
            group_decoder_use(self.native, dictionary.native)

    def __dealloc__(self):
        group_decoder_free(self.native)

    def decode(self, int kind, const uint8_t[::1] payload not None, unsigned count, wanted=None):
        """The first `wanted` pages at least of a group of `count`, all where it is not given.
        ValueError when the payload is malformed."""
        cdef unsigned first = count if wanted is None else wanted
        cdef unsigned decoded
        if not 0 < first <= count <= GROUP_PAGES_MOST:
            raise ValueError(f"a group is 1 to {GROUP_PAGES_MOST} pages")
        out = bytearray(count * PAGE_BYTES)
        cdef uint8_t[::1] pages = out
        cdef const uint8_t *bytes_in = &payload[0] if payload.shape[0] else NULL
        with nogil:
            decoded = group_decode(self.native, <codec>kind, bytes_in, <size_t>payload.shape[0],
                                   count, first, &pages[0])
        if decoded == 0:
            raise ValueError("a group that cannot be decoded")
        return bytes(out[:decoded * PAGE_BYTES])


cdef class Group:
    """Up to 64 pages of stored objects on their way to become one group."""
    cdef uint8_t *pages
    cdef uint8_t *payload
    cdef object_snapshot snapshots[64]
    cdef uint8_t is_current[64]
    cdef unsigned native_count
    cdef readonly size_t length
    """Of the payload, once it is encoded; 0 when that would be no shorter than the pages."""
    cdef readonly int kind
    cdef readonly double present
    """Bytes that the objects take now."""
    cdef readonly unsigned unreadable
    """Objects that could not be read, and so were left out."""

    def __cinit__(self):
        self.pages = <uint8_t *>malloc(GROUP_BYTES_MOST)
        self.payload = <uint8_t *>malloc(GROUP_BYTES_MOST)
        if self.pages == NULL or self.payload == NULL:
            raise MemoryError("group")

    def __dealloc__(self):
        free(self.pages)
        free(self.payload)

    def __len__(self):
        return self.native_count

    def ids(self):
        """The objects that were gathered."""
        return array("I", [self.snapshots[i].id for i in range(self.native_count)])

    def content(self):
        """The pages that were gathered."""
        if self.native_count == 0:
            return b""
        return PyBytes_FromStringAndSize(<char *>self.pages,
                                         <Py_ssize_t>self.native_count * PAGE_BYTES)

    cdef bint take(self, Extents extents, Context context, uint32_t id,
                   uint32_t *culprit) noexcept nogil:
        """Adds an object; False where a header is missing."""
        cdef object_snapshot *snapshot = &self.snapshots[self.native_count]
        cdef uint8_t *page = self.pages + <size_t>self.native_count * PAGE_BYTES
        cdef read_status status = READ_STALE
        cdef read_result result
        cdef unsigned kind
        cdef double stored = 0
        cdef uint32_t pages
        while status == READ_STALE:
            status = extents_snapshot(&extents.native, id, snapshot)
            culprit[0] = id >> 8
            if status != READ_OK:
                break
            kind = record_codec(&snapshot.record)
            if kind == CODEC_SAME or record_is_group(&snapshot.record):
                return True
            result = extents_read_snapshot(&extents.native, context.native, snapshot, page)
            status = result.status
            culprit[0] = result.culprit
        if status == READ_HEADER_MISSING:
            return False
        if status == READ_NO_OBJECT:
            return True  # gone meanwhile
        if status != READ_OK:
            self.unreadable += 1
            return True
        status = extents_bytes_of(&extents.native, id, &stored, &pages, culprit)
        if status == READ_HEADER_MISSING:
            culprit[0] >>= 8
            return False
        if status == READ_OK:
            self.present += stored
            self.native_count += 1
        return True

    def gather(self, Extents extents not None, Context context not None,
               const uint32_t[::1] ids not None):
        """Reads objects, in this order; those that are gone, of one word, or damaged are left out.
        No lock is needed. Returns 0, or the extent whose header must be loaded before another try.
        """
        cdef Py_ssize_t i
        cdef uint32_t culprit = 0
        cdef bint found = True
        if ids.shape[0] > GROUP_PAGES_MOST:
            raise ValueError(f"a group is {GROUP_PAGES_MOST} pages at most")
        self.native_count = 0
        self.unreadable = 0
        self.present = 0
        self.length = 0
        with nogil:
            for i in range(ids.shape[0]):
                found = self.take(extents, context, ids[i], &culprit)
                if not found:
                    break
        return 0 if found else culprit

    def encode(self, GroupEncoder encoder not None):
        """Makes the payload."""
        self.kind = encoder.codec
        self.length = 0
        if self.native_count:
            with nogil:
                self.length = group_encode(encoder.native, self.pages, self.native_count,
                                           self.payload, <size_t>self.native_count * PAGE_BYTES)

    def missing(self, Extents extents not None):
        """Extents whose headers must be loaded for the next two calls, as far as is known yet."""
        return extents.missing(self.ids())

    def current(self, Extents extents not None, Context context not None):
        """How many objects still have the bytes that were gathered. On the routing thread, with the
        store's lock, headers loaded; nothing may change between this and join()."""
        cdef unsigned i
        cdef unsigned count = 0
        cdef object_snapshot now
        cdef uint8_t page[4096]
        for i in range(self.native_count):
            self.is_current[i] = 0
            if extents_snapshot(&extents.native, self.snapshots[i].id, &now) != READ_OK:
                continue
            if record_is_group(&now.record) or record_codec(&now.record) == CODEC_SAME:
                continue
            # A place of an extent is given out once in an epoch: then it is the same payload, and a
            # patch has kept its base meanwhile. A member's place is its group's, and what was moved
            # has another: they are compared.
            if (now.epoch == self.snapshots[i].epoch and
                    now.record.place == self.snapshots[i].record.place and
                    not record_is_member(&now.record) and
                    not record_is_member(&self.snapshots[i].record)):
                self.is_current[i] = 1
            elif extents_read_snapshot(&extents.native, context.native, &now,
                                       page).status == READ_OK:
                self.is_current[i] = memcmp(page, self.pages + <size_t>i * PAGE_BYTES,
                                            PAGE_BYTES) == 0
            count += self.is_current[i]
        return count

    def join(self, Extents extents not None, uint32_t id):
        """Makes those objects members of the group that was installed as `id`. Returns what they
        were patches or members of, to be released as by patches."""
        cdef unsigned i
        cdef uint32_t left
        released = array("I")
        for i in range(self.native_count):
            if self.is_current[i]:
                if extents_join(&extents.native, self.snapshots[i].id, id, i, &left):
                    raise ValueError(f"object {self.snapshots[i].id:#x} cannot join a group")
                if left:
                    released.append(left)
        return released


cdef class Batch:
    """Up to BATCH_PAGES pages on their way through the router."""
    cdef batch *native
    cdef routing routing
    cdef codec plain_codec
    cdef bint has_dictionary
    cdef const uint8_t[::1] pages

    def __cinit__(self, recipe):
        self.native = <batch *>calloc(1, sizeof(batch))
        if self.native == NULL:
            raise MemoryError("batch")
        self.native.arena = <uint8_t *>malloc(C_BATCH_PAGES * PAGE_BYTES)
        if self.native.arena == NULL:
            raise MemoryError("batch")
        self.routing.share = recipe.share
        self.routing.sketch = <sketch_kind><int>recipe.sketch
        self.routing.candidates = recipe.candidates
        self.routing.minimum_votes = recipe.minimum_votes
        self.routing.single_vote_run = recipe.single_vote_run
        self.routing.patch_codec = <codec><int>recipe.patch_codec
        self.routing.patch_level = recipe.patch_level
        self.routing.patch_limit = recipe.patch_limit
        self.routing.patch_ratio = recipe.patch_ratio
        self.routing.patch_sure_ratio = recipe.patch_sure_ratio
        self.routing.maximum_depth = recipe.maximum_depth
        self.plain_codec = <codec><int>recipe.compress_codec
        self.routing.compress_codec = self.plain_codec
        self.routing.compress_level = recipe.compress_level

    def __dealloc__(self):
        if self.native != NULL:
            free(self.native.arena)
            free(self.native)

    def use_dictionary(self):
        """Compresses pages of domain 0 with the contexts' dictionary from here on: it is made of
        such, and others would tell of them by their sizes."""
        self.has_dictionary = True
        self.choose_codec()

    cdef void choose_codec(self) noexcept:
        self.routing.compress_codec = self.plain_codec
        if self.has_dictionary and self.native.domain == 0:
            self.routing.compress_codec = CODEC_ZSTD_DICTIONARY

    def compressed_pages(self):
        """Indices of the pages that were compressed; after routing."""
        return [i for i in range(self.native.count) if self.native.routed[i].route == ROUTE_COMPRESS]

    def begin(self, const uint8_t[::1] pages not None, uint32_t domain=0):
        """Takes pages, all of one domain; they must not change until the batch is packed."""
        cdef Py_ssize_t count = pages.shape[0] // PAGE_BYTES
        if count == 0 or count > C_BATCH_PAGES or count * PAGE_BYTES != pages.shape[0]:
            raise ValueError(f"a batch is 1 to {C_BATCH_PAGES} whole pages")
        self.pages = pages
        self.native.pages = &pages[0]
        self.native.count = <uint32_t>count
        self.native.domain = domain
        self.native.key_mask = domain_key_mask(domain)
        self.choose_codec()

    def holds(self, const uint8_t[::1] pages not None):
        """Whether these are the very pages that it took."""
        return (self.native.count != 0 and &pages[0] == self.native.pages and
                pages.shape[0] == <Py_ssize_t>self.native.count * PAGE_BYTES)

    def finish(self):
        self.native.pages = NULL
        self.native.count = 0
        self.pages = None

    @property
    def count(self):
        return self.native.count

    @property
    def domain(self):
        """That all its pages belong to."""
        return self.native.domain

    def classify(self, uint32_t start, uint32_t end):
        if start > end or end > self.native.count:
            raise IndexError(end)
        with nogil:
            batch_classify(self.native, &self.routing, start, end)

    def propose(self, DigestTable digests not None, SketchTable sketches not None):
        """Looks the pages up in the hint tables. Returns the proposed object ids."""
        cdef uint32_t i
        cdef unsigned k
        ids = NUMBER * (self.native.count * (DIGEST_CANDIDATES + 2))
        cdef uint32_t[::1] numbers = ids
        cdef Py_ssize_t count = 0
        cdef routed *r
        with nogil:
            batch_propose(self.native, &self.routing, &digests.native, &sketches.native)
        for i in range(self.native.count):
            r = &self.native.routed[i]
            for k in range(r.identical_count):
                numbers[count] = r.identical_ids[k]
                count += 1
            if r.base_ids[0] and r.votes[0] >= self.routing.minimum_votes:
                numbers[count] = r.base_ids[0]
                count += 1
            # The second is tried, too, or instead of a first with one feature and nothing more.
            if (r.base_ids[1] and r.votes[1] >= self.routing.minimum_votes and
                    (self.routing.candidates > 1 or r.votes[0] == 1)):
                numbers[count] = r.base_ids[1]
                count += 1
        return ids[:count]

    def slices(self, uint32_t count):
        """Bounds of `count` slices with as many pages each that have to be encoded; after propose.
        """
        cdef uint32_t i
        cdef uint32_t passed = 0
        cdef uint32_t total = 0
        for i in range(self.native.count):
            total += routed_is_to_be_encoded(&self.native.routed[i])
        bounds = [0]
        for i in range(self.native.count):
            if passed * count >= total * <uint32_t>len(bounds) and len(bounds) < count:
                bounds.append(i)
            passed += routed_is_to_be_encoded(&self.native.routed[i])
        bounds += [self.native.count] * <Py_ssize_t>(count + 1 - len(bounds))
        return bounds

    def route(self, Extents extents not None, Context context not None, uint32_t start,
              uint32_t end):
        if start > end or end > self.native.count:
            raise IndexError(end)
        with nogil:
            batch_route(self.native, &self.routing, &extents.native, context.native, start, end)

    def pack(self, uint32_t next, Staged staged not None):
        """Packs new objects from page `next` on; returns where to go on (count: all done)."""
        cdef size_t written = 0
        if staged.header.prefix.domain != self.native.domain:
            raise ValueError(f"pages of domain {self.native.domain} for an extent of another")
        with nogil:
            next = batch_pack(self.native, next, staged.number, &staged.header,
                              staged.out + staged.written, C_EXTENT_SIDE_BYTES - staged.written,
                              &written)
        staged.written += written
        return next

    def next_object(self, uint32_t next):
        """The first page from `next` on that is a new object, or count."""
        while next < self.native.count and not routed_is_new(&self.native.routed[next]):
            next += 1
        return next

    def added(self, Extents extents not None, uint32_t start, uint32_t end):
        """Accounts the objects that packing pages [start, end) has made."""
        cdef uint32_t i
        if end > self.native.count:
            raise IndexError(end)
        for i in range(start, end):
            if routed_is_new(&self.native.routed[i]):
                extents_added(&extents.native, self.native.routed[i].id)

    def ids(self):
        """The object id of each page; after packing."""
        ids = NUMBER * self.native.count
        cdef uint32_t[::1] numbers = ids
        cdef uint32_t i
        for i in range(self.native.count):
            if self.native.routed[i].twin >= 0:
                self.native.routed[i].id = self.native.routed[self.native.routed[i].twin].id
            numbers[i] = self.native.routed[i].id
        return ids

    def new_ids(self, uint32_t end):
        """Ids that packing gave to pages below `end`."""
        if end > self.native.count:
            raise IndexError(end)
        return array("I", [
            self.native.routed[i].id for i in range(end)
            if routed_is_new(&self.native.routed[i])])

    def bases(self):
        """The base of each new patch; after packing."""
        ids = NUMBER * self.native.count
        cdef uint32_t[::1] numbers = ids
        cdef Py_ssize_t count = 0
        cdef uint32_t i
        for i in range(self.native.count):
            if self.native.routed[i].route == ROUTE_PATCH:
                numbers[count] = self.native.routed[i].base_id
                count += 1
        return ids[:count]

    def publish(self, DigestTable digests not None, SketchTable sketches not None):
        """Puts the new objects in the hint tables; (references added, False when full)."""
        cdef uint32_t i
        cdef unsigned f
        cdef int taken
        cdef routed *r
        cdef bint fits = True
        cdef uint64_t used = 0
        cdef uint64_t references = 0
        for i in range(self.native.count):
            r = &self.native.routed[i]
            batch_prefetch(self.native, &self.routing, i, &digests.native, &sketches.native)
            if not routed_is_new(r):
                continue
            # Behind the first that finds no room others might, after a search as long as its own.
            if self.routing.share and fits:
                taken = 0
                if not (r.replaced_id and digest_table_replace(
                        &digests.native, batch_digest_key(self.native, r), r.replaced_id, r.id)):
                    taken = digest_table_insert(&digests.native, batch_digest_key(self.native, r),
                                                r.id)
                if taken < 0:
                    fits = False
                else:
                    used += <uint64_t>taken
            if r.feature_count and sketches.native.slots != NULL:
                references += 1
                for f in range(r.feature_count):
                    sketch_table_put(&sketches.native, r.features[f], r.id)
        digests.used += used
        return references, fits

    def totals(self):
        """Per route (pages, payload bytes, nanoseconds spent on encoding)."""
        cdef uint64_t sums[6][3]
        cdef uint32_t i, k
        cdef routed *r
        memset(sums, 0, sizeof(sums))
        for i in range(self.native.count):
            r = &self.native.routed[i]
            if r.route >= 6:
                raise ValueError("the batch has not been routed")
            sums[r.route][0] += 1
            sums[r.route][2] += r.encode_nanoseconds
            if routed_is_new(r):
                sums[r.route][1] += r.length
        return [(sums[k][0], sums[k][1], sums[k][2]) for k in range(6)]

    def outcome(self, uint32_t index):
        """(route, codec, depth, payload length) of one page; for tests."""
        if index >= self.native.count:
            raise IndexError(index)
        cdef routed *r = &self.native.routed[index]
        return r.route, r.codec, r.depth, r.length


include "_volume_pages.pxi"
