# Part of _kernels.pyx: page tables in memory, the write buffer, and what answers for open volumes.
#
# Lock rule: what works on them takes the page lock (native/volume_pages.h) by itself, for moments, and
# does nothing with Python's objects meanwhile: that could run anything.
from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uintptr_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_rwlock_t:
        pass
    ctypedef struct pthread_rwlockattr_t:
        pass
    int PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP
    int pthread_rwlockattr_init(pthread_rwlockattr_t *attributes)
    int pthread_rwlockattr_setkind_np(pthread_rwlockattr_t *attributes, int kind)
    int pthread_rwlockattr_destroy(pthread_rwlockattr_t *attributes)
    int pthread_rwlock_init(pthread_rwlock_t *lock, const pthread_rwlockattr_t *attributes)
    int pthread_rwlock_destroy(pthread_rwlock_t *lock)
    int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
    int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
    int pthread_rwlock_unlock(pthread_rwlock_t *lock)

cdef extern from "key_map.h" nogil:
    struct key_map:
        size_t count
    void *key_map_next(const key_map *map, size_t *at, uint64_t *key)

cdef extern from "page_tables.h" nogil:
    enum: TABLE_ENTRIES_NATIVE "TABLE_ENTRIES"
    enum: TABLE_BYTES_NATIVE "TABLE_BYTES"
    enum: CHUNK_DIRTY
    enum: CHUNK_COMMITTING
    struct table_chunk:
        uint64_t key
        uint8_t changes
        uint8_t touched
        uint32_t words[1020]
    struct id_list:
        uint32_t *ids
        size_t count
    struct page_tables:
        key_map chunks
        id_list released
        uint64_t objects
        uint64_t zeros
        uint64_t lost
        size_t changed
    uint32_t *chunk_ids(table_chunk *chunk)
    void page_tables_free(page_tables *tables)
    table_chunk *page_tables_find(const page_tables *tables, uint32_t volume, uint32_t chunk)
    table_chunk *page_tables_bring(page_tables *tables, uint32_t volume, uint32_t chunk,
                                   const uint32_t *words)
    void page_tables_forget(page_tables *tables, table_chunk *chunk)
    int page_tables_count(page_tables *tables, uint32_t volume, int64_t objects, int64_t zeros,
                          int64_t lost)
    uint64_t page_tables_mapped(const page_tables *tables, uint32_t volume)
    void page_tables_set_changes(page_tables *tables, table_chunk *chunk, uint8_t changes)
    int page_tables_expect(page_tables *tables, size_t count)
    void page_tables_set(page_tables *tables, table_chunk *chunk, uint32_t entry, uint32_t id)
    int page_tables_release(page_tables *tables, uint32_t id)

cdef extern from "write_buffer.h" nogil:
    enum: NO_SLOT
    struct buffer_slot:
        uint64_t key
        uint32_t newer
    struct write_buffer:
        uint8_t *memory
        buffer_slot *slots
        uint32_t count
        uint32_t available
        uint32_t oldest
        key_map waiting
        key_map routing
    int write_buffer_init(write_buffer *buffer, uint8_t *memory, uint32_t count)
    void write_buffer_free(write_buffer *buffer)
    uint32_t write_buffer_waiting(const write_buffer *buffer, uint64_t key)
    uint32_t write_buffer_slot(const write_buffer *buffer, uint64_t key)
    uint64_t write_buffer_pages(const write_buffer *buffer, uint32_t volume)
    int write_buffer_has_room(const write_buffer *buffer, uint32_t volume, uint32_t more)
    uint8_t *write_buffer_page(const write_buffer *buffer, uint32_t slot)
    size_t write_buffer_oldest(const write_buffer *buffer, size_t most, uint64_t latest,
                               uint64_t *keys)
    uint32_t write_buffer_begin(write_buffer *buffer, uint64_t key)
    void write_buffer_put_back(write_buffer *buffer, uint64_t key, uint32_t slot)
    uint32_t write_buffer_resident(const write_buffer *buffer)
    uint32_t write_buffer_give_back(write_buffer *buffer, uint32_t first, uint32_t count)

cdef extern from "data_path.h" nogil:
    struct page_reader:
        pass
    ctypedef int (*data_path_read)(void *self, page_reader *reader, uint64_t handle,
                                   uint64_t offset, size_t size, uint8_t *out) noexcept nogil
    ctypedef int (*data_path_write)(void *self, uint64_t handle, uint64_t offset, size_t size,
                                    const uint8_t *data) noexcept nogil
    ctypedef int (*data_path_punch)(void *self, uint64_t handle, uint64_t offset,
                                    uint64_t size) noexcept nogil
    struct data_path:
        page_reader *(*new_reader)(void *self) noexcept nogil
        void (*free_reader)(page_reader *reader) noexcept nogil
        data_path_read read
        data_path_write write
        data_path_punch punch
    enum: DATA_PATH_DONE

cdef extern from "volume_pages.h" nogil:
    struct signal_mark:
        pass
    struct page_place:
        pass
    struct volume_pages:
        const codec_dictionary *dictionary
        const codec_dictionary *group_dictionary
        uint64_t fixed_tick
        int is_refusing
        int are_tables_held
        uint64_t decoded[256]
        uint64_t decode_nanoseconds[256]
        data_path data_path
    int signal_mark_init(signal_mark *mark)
    void signal_mark_free(signal_mark *mark)
    void signal_mark_set(signal_mark *mark)
    void signal_mark_wait(signal_mark *mark, double seconds)
    uint64_t volume_pages_tick(const volume_pages *pages)
    int buffer_is_crowded(const write_buffer *buffer)
    void volume_pages_init(volume_pages *pages, pthread_rwlock_t *lock, page_tables *tables,
                           write_buffer *buffer, extents *extents, signal_mark *work)
    void volume_pages_free(volume_pages *pages)
    int volume_pages_open(volume_pages *pages, uint64_t handle, uint32_t number, uint64_t size,
                          int is_writer)
    void volume_pages_close(volume_pages *pages, uint64_t handle)
    void volume_pages_set_size(volume_pages *pages, uint32_t number, uint64_t size)
    uint32_t volume_pages_take_written(volume_pages *pages, uint32_t number, int64_t *nanoseconds)
    void volume_pages_place(volume_pages *pages, uint64_t key, page_place *place)
    int volume_pages_write_waiting(volume_pages *pages, uint64_t key, size_t start,
                                   const uint8_t *data, size_t length)
    int volume_pages_put_from(volume_pages *pages, uint64_t key, const page_place *place,
                              const uint8_t *page)
    size_t volume_pages_put(volume_pages *pages, uint64_t key, const uint8_t *data, size_t count)
    int volume_pages_copy_buffered(volume_pages *pages, uint64_t key, uint8_t *out)
    size_t volume_pages_forget(volume_pages *pages, uint32_t volume, uint64_t first, uint64_t end)
    uint64_t volume_pages_next_buffered(volume_pages *pages, uint32_t volume, uint64_t first,
                                        uint64_t end)
    long volume_pages_adopt(volume_pages *pages, const uint64_t *keys, const uint32_t *slots,
                            const uint32_t *ids, size_t count)

cdef extern from *:
    """
    static inline void store_flag(int *place, int value) {
        __atomic_store_n(place, value, __ATOMIC_RELEASE);
    }
    static inline void store_number(uint64_t *place, uint64_t value) {
        __atomic_store_n(place, value, __ATOMIC_RELAXED);
    }
    static inline void store_dictionary(const codec_dictionary **place,
                                        const codec_dictionary *value) {
        __atomic_store_n(place, value, __ATOMIC_RELEASE);
    }
    static inline uint64_t load_count(const uint64_t *place) {
        return __atomic_load_n(place, __ATOMIC_RELAXED);
    }
    """
    void store_flag(int *place, int value) noexcept nogil
    void store_number(uint64_t *place, uint64_t value) noexcept nogil
    void store_dictionary(const codec_dictionary **place, const codec_dictionary *value) noexcept nogil
    uint64_t load_count(const uint64_t *place) noexcept nogil

TABLE_ENTRIES = TABLE_ENTRIES_NATIVE
TABLE_BYTES = TABLE_BYTES_NATIVE

# Pages, and slots of the write buffer, that are looked at while the page lock is held.
cdef enum:
    PAGES_A_TURN = 64
    SLOTS_A_TURN = 64

cdef object KEY = array("Q", [0])  # times n: room for n keys


cdef class TableChunks:
    """Chunks of page tables in memory, and the ids that pages gave up. Owns the page lock."""
    cdef pthread_rwlock_t lock
    cdef page_tables native

    def __cinit__(self):
        cdef pthread_rwlockattr_t attributes
        memset(&self.native, 0, sizeof(self.native))
        # Who changes things does so for moments, and must not wait for ever for those who read.
        pthread_rwlockattr_init(&attributes)
        pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP)
        pthread_rwlock_init(&self.lock, &attributes)
        pthread_rwlockattr_destroy(&attributes)

    def __dealloc__(self):
        page_tables_free(&self.native)
        pthread_rwlock_destroy(&self.lock)

    def __len__(self):
        return <Py_ssize_t>self.native.chunks.count

    @property
    def objects(self):
        """Pages that are objects, or lost."""
        return self.native.objects

    @property
    def zeros(self):
        """Pages written as zeros."""
        return self.native.zeros

    @property
    def lost(self):
        """Pages whose content is lost."""
        return self.native.lost

    @property
    def changed(self):
        """Chunks that no finished commit holds as they are."""
        return self.native.changed

    def mapped(self, uint32_t volume):
        """Pages of the volume that are not holes."""
        pthread_rwlock_rdlock(&self.lock)
        cdef uint64_t mapped = page_tables_mapped(&self.native, volume)
        pthread_rwlock_unlock(&self.lock)
        return mapped

    def count(self, uint32_t volume, int64_t objects, int64_t zeros, int64_t lost):
        """Counts pages of chunks that are not in memory."""
        pthread_rwlock_wrlock(&self.lock)
        cdef int failed = page_tables_count(&self.native, volume, objects, zeros, lost)
        pthread_rwlock_unlock(&self.lock)
        if failed:
            raise MemoryError("page tables")

    cdef table_chunk *find(self, uint32_t volume, uint32_t chunk) noexcept nogil:
        """For the thread that alone may drop chunks from memory: with the store's lock."""
        pthread_rwlock_rdlock(&self.lock)
        cdef table_chunk *found = page_tables_find(&self.native, volume, chunk)
        if found != NULL:
            found.touched = 1
        pthread_rwlock_unlock(&self.lock)
        return found

    cdef table_chunk *must_find(self, uint32_t volume, uint32_t chunk) except NULL:
        cdef table_chunk *found = self.find(volume, chunk)
        if found == NULL:
            raise KeyError((volume, chunk))
        return found

    def has(self, uint32_t volume, uint32_t chunk):
        """Whether the chunk is in memory."""
        return self.find(volume, chunk) != NULL

    def bring(self, uint32_t volume, uint32_t chunk, const uint8_t[::1] stored):
        """Brings a chunk into memory: as stored, or one that maps nothing (None)."""
        cdef const uint32_t *words = NULL
        if stored is not None:
            if stored.shape[0] != TABLE_BYTES_NATIVE:
                raise ValueError(f"a page table chunk of {stored.shape[0]} bytes")
            words = <const uint32_t *>&stored[0]
        pthread_rwlock_wrlock(&self.lock)
        cdef table_chunk *brought = page_tables_bring(&self.native, volume, chunk, words)
        pthread_rwlock_unlock(&self.lock)
        if brought == NULL:
            raise MemoryError("page tables")

    def counts(self, uint32_t volume, uint32_t chunk):
        """(objects and lost, zeros, lost) of a chunk in memory."""
        cdef table_chunk *found = self.must_find(volume, chunk)
        return found.words[1], found.words[2], found.words[3]

    def lookup(self, uint32_t volume, uint32_t chunk, uint32_t first, uint32_t count,
               uint32_t[::1] ids not None, Py_ssize_t at):
        """Copies entries [first, first + count) of a chunk in memory to ids[at:]."""
        cdef table_chunk *found = self.must_find(volume, chunk)
        if (<uint64_t>first + count > TABLE_ENTRIES_NATIVE or at < 0 or
                at + <Py_ssize_t>count > ids.shape[0]):
            raise IndexError(first + count)
        if count:
            pthread_rwlock_rdlock(&self.lock)
            memcpy(&ids[at], chunk_ids(found) + first, 4 * <size_t>count)
            pthread_rwlock_unlock(&self.lock)

    def map(self, uint32_t volume, const uint64_t[::1] pages not None,
            const uint32_t[::1] ids not None, Py_ssize_t start, Py_ssize_t end):
        """Maps pages[start:end], all of one chunk in memory, to ids; their former objects are
        released."""
        cdef table_chunk *found
        cdef Py_ssize_t i
        cdef int ready
        if start < 0 or end > pages.shape[0] or end > ids.shape[0]:
            raise IndexError(end)
        if start >= end:
            return
        found = self.must_find(volume, <uint32_t>(pages[start] // TABLE_ENTRIES_NATIVE))
        pthread_rwlock_wrlock(&self.lock)
        ready = (page_tables_expect(&self.native, <size_t>(end - start)) == 0 and
                 page_tables_count(&self.native, volume, 0, 0, 0) == 0)
        if ready:
            for i in range(start, end):
                page_tables_set(&self.native, found, <uint32_t>(pages[i] % TABLE_ENTRIES_NATIVE),
                                ids[i])
        pthread_rwlock_unlock(&self.lock)
        if not ready:
            raise MemoryError("page tables")

    def fill(self, uint32_t volume, uint32_t chunk, uint32_t first, uint32_t count, uint32_t id):
        """Makes entries [first, first + count) of a chunk in memory holes (0), zeros (255) or lost
        (254)."""
        cdef table_chunk *found = self.must_find(volume, chunk)
        cdef uint32_t i
        cdef int ready
        if <uint64_t>first + count > TABLE_ENTRIES_NATIVE or id not in (0, ID_LOST, ID_ZERO):
            raise IndexError(first + count)
        pthread_rwlock_wrlock(&self.lock)
        ready = (page_tables_expect(&self.native, count) == 0 and
                 page_tables_count(&self.native, volume, 0, 0, 0) == 0)
        if ready:
            for i in range(first, first + count):
                page_tables_set(&self.native, found, i, id)
        pthread_rwlock_unlock(&self.lock)
        if not ready:
            raise MemoryError("page tables")

    def forget(self, uint32_t volume, uint32_t chunk):
        """Drops a chunk from memory, changed or not."""
        cdef table_chunk *found = self.find(volume, chunk)
        if found != NULL:
            pthread_rwlock_wrlock(&self.lock)
            page_tables_forget(&self.native, found)
            pthread_rwlock_unlock(&self.lock)

    def chunks_of(self, uint32_t volume, uint32_t first, uint32_t end):
        """The chunks [first, end) of a volume that are in memory, in no order."""
        return [key & 0xFFFFFFFF for key in self.keys(0, 0)
                if key >> 32 == volume and first <= (key & 0xFFFFFFFF) < end]

    cdef list keys(self, unsigned mask, unsigned wanted):
        """The keys of the chunks in memory whose changes are these."""
        keys = KEY * <Py_ssize_t>self.native.chunks.count
        cdef uint64_t[::1] places = keys
        cdef Py_ssize_t count = 0
        cdef size_t at = 0
        cdef uint64_t key
        cdef table_chunk *chunk
        # Only who holds the store's lock brings chunks, so that there are no more than before.
        pthread_rwlock_rdlock(&self.lock)
        chunk = <table_chunk *>key_map_next(&self.native.chunks, &at, &key)
        while chunk != NULL:
            if chunk.changes & mask == wanted:
                places[count] = key
                count += 1
            chunk = <table_chunk *>key_map_next(&self.native.chunks, &at, &key)
        pthread_rwlock_unlock(&self.lock)
        return keys[:count].tolist()

    # -- released ids ----------------------------------------------------------------------------

    @property
    def released(self):
        """How many ids wait to be taken back."""
        return self.native.released.count

    def take_released(self, Py_ssize_t most):
        """Takes so many of the released ids, those released last."""
        ids = NUMBER * most
        cdef uint32_t[::1] numbers = ids
        cdef Py_ssize_t count
        pthread_rwlock_wrlock(&self.lock)
        count = min(most, <Py_ssize_t>self.native.released.count)
        self.native.released.count -= <size_t>count
        if count:
            memcpy(&numbers[0], self.native.released.ids + self.native.released.count,
                   4 * <size_t>count)
        pthread_rwlock_unlock(&self.lock)
        return ids[:count]

    def release(self, const uint32_t[::1] ids not None):
        """Adds ids of objects to those released."""
        cdef Py_ssize_t i
        cdef int failed
        pthread_rwlock_wrlock(&self.lock)
        failed = page_tables_expect(&self.native, <size_t>ids.shape[0])
        if not failed:
            for i in range(ids.shape[0]):
                if id_is_object(ids[i]):
                    page_tables_release(&self.native, ids[i])
        pthread_rwlock_unlock(&self.lock)
        if failed:
            raise MemoryError("released references")

    # -- commits ---------------------------------------------------------------------------------

    def begin_commit(self):
        """The changed chunks as (volume, chunk, bytes); None for those that map nothing.

        The bytes are the chunk's own: nobody may change a page table until they have been copied.
        """
        cdef table_chunk *chunk
        cdef uint32_t *words
        result = []
        for key in self.keys(CHUNK_DIRTY, CHUNK_DIRTY):
            chunk = self.must_find(key >> 32, key & 0xFFFFFFFF)
            words = chunk.words
            pthread_rwlock_wrlock(&self.lock)
            page_tables_set_changes(&self.native, chunk, CHUNK_COMMITTING)
            pthread_rwlock_unlock(&self.lock)
            if words[1] == 0 and words[2] == 0:
                content = None
            else:
                content = PyMemoryView_FromMemory(<char *>words, TABLE_BYTES_NATIVE, PyBUF_READ)
            result.append((key >> 32, key & 0xFFFFFFFF, content))
        return result

    def end_commit(self, bint succeeded):
        """Settles what begin_commit handed out."""
        cdef table_chunk *chunk
        cdef uint8_t changes
        for key in self.keys(CHUNK_COMMITTING, CHUNK_COMMITTING):
            chunk = self.must_find(key >> 32, key & 0xFFFFFFFF)
            pthread_rwlock_wrlock(&self.lock)
            changes = chunk.changes & <uint8_t>~CHUNK_COMMITTING
            if not succeeded:
                changes |= CHUNK_DIRTY
            page_tables_set_changes(&self.native, chunk, changes)
            pthread_rwlock_unlock(&self.lock)

    def trim(self, Py_ssize_t limit):
        """Drops clean chunks until at most `limit` are in memory, those not looked at first."""
        cdef table_chunk *chunk
        if <Py_ssize_t>(self.native.chunks.count - self.native.changed) <= limit:
            return
        for _round in range(2):  # the first may only clear the marks
            for key in self.keys(CHUNK_DIRTY | CHUNK_COMMITTING, 0):
                if <Py_ssize_t>(self.native.chunks.count - self.native.changed) <= limit:
                    return
                pthread_rwlock_wrlock(&self.lock)
                chunk = page_tables_find(&self.native, key >> 32, key & 0xFFFFFFFF)
                if chunk.changes == 0:
                    if chunk.touched:
                        chunk.touched = 0
                    else:
                        page_tables_forget(&self.native, chunk)
                pthread_rwlock_unlock(&self.lock)


def table_counts(const uint8_t[::1] table not None):
    """(objects and lost, zeros, lost) of a stored chunk; ValueError when it is none."""
    cdef const uint32_t *words
    if table.shape[0] != TABLE_BYTES_NATIVE:
        raise ValueError(f"a page table chunk of {table.shape[0]} bytes")
    words = <const uint32_t *>&table[0]
    if words[3] > words[1] or <uint64_t>words[1] + words[2] > TABLE_ENTRIES_NATIVE:
        raise ValueError("a page table chunk that contradicts itself")
    return words[1], words[2], words[3]


cdef class Place:
    """Where the newest bytes of a page are; changes whenever they do."""
    cdef page_place native


cdef bint is_among(const uint32_t[::1] numbers, uint32_t number) noexcept nogil:
    """Whether it is one of the ascending numbers."""
    cdef Py_ssize_t low = 0
    cdef Py_ssize_t end = numbers.shape[0]
    cdef Py_ssize_t middle
    while low < end:
        middle = (low + end) // 2
        if numbers[middle] < number:
            low = middle + 1
        else:
            end = middle
    return low < numbers.shape[0] and numbers[low] == number


cdef class VolumePages:
    """The pages of volumes that are open for writing: the write buffer over the page tables, and what
    answers requests for their bytes without Python (native/data_path.h).

    Lock rule: every call takes the page lock by itself. Those that change something for the routing
    thread, or make sense only together, need the store's lock as well (docs/concurrency.md).
    """
    cdef TableChunks chunks
    cdef Extents extents
    cdef Dictionary dictionary
    cdef Dictionary group_dictionary
    cdef uint8_t[::1] memory
    cdef write_buffer buffer
    cdef signal_mark work
    cdef volume_pages native

    def __cinit__(self, TableChunks chunks not None, Extents extents not None,
                  uint8_t[::1] memory not None):
        cdef Py_ssize_t slots = memory.shape[0] // PAGE_BYTES
        if not 0 < slots < <Py_ssize_t>NO_SLOT:
            raise ValueError(f"a write buffer of {slots} pages")
        self.chunks = chunks
        self.extents = extents
        self.memory = memory
        if write_buffer_init(&self.buffer, &memory[0], <uint32_t>slots):
            raise MemoryError("write buffer")
        signal_mark_init(&self.work)
        volume_pages_init(&self.native, &chunks.lock, &chunks.native, &self.buffer,
                          &extents.native, &self.work)

    def __dealloc__(self):
        volume_pages_free(&self.native)
        write_buffer_free(&self.buffer)
        signal_mark_free(&self.work)

    @property
    def data_path(self):
        """The address of its struct data_path; good for as long as this object lives."""
        return <uintptr_t>&self.native.data_path

    def use_dictionary(self, Dictionary dictionary not None):
        """Lets objects be decoded that need it; before the first of them is mapped."""
        self.dictionary = dictionary
        store_dictionary(&self.native.dictionary, dictionary.native)

    def use_group_dictionary(self, Dictionary dictionary not None):
        """Lets readers decode groups that need the dictionary, from now on."""
        self.group_dictionary = dictionary
        store_dictionary(&self.native.group_dictionary, dictionary.native)

    @property
    def tick(self):
        """Tenths of a second on the clock of writes."""
        return volume_pages_tick(&self.native)

    def set_tick(self, uint64_t tick):
        """Stops the clock of writes there, for tests."""
        store_number(&self.native.fixed_tick, tick)

    def refuse(self):
        """Lets every write and punch take the long way from here on, which says why not."""
        store_flag(&self.native.is_refusing, 1)

    def hold_tables(self, bint held):
        """Lets punches take the long way meanwhile, so that only who asks here, or has the store's
        lock, changes page tables."""
        pthread_rwlock_wrlock(&self.chunks.lock)
        self.native.are_tables_held = held
        pthread_rwlock_unlock(&self.chunks.lock)

    def decode_totals(self):
        """Per codec (objects decoded, nanoseconds) by what answers without Python."""
        return [(load_count(&self.native.decoded[k]), load_count(&self.native.decode_nanoseconds[k]))
                for k in range(CODEC_COUNT)]

    # -- open volumes ----------------------------------------------------------------------------

    def open(self, uint64_t handle, uint32_t number, uint64_t size, bint is_writer):
        """Answers for a volume of so many bytes under a handle."""
        if volume_pages_open(&self.native, handle, number, size, is_writer):
            raise MemoryError("open volumes")

    def close(self, uint64_t handle):
        """Forgets a handle."""
        volume_pages_close(&self.native, handle)

    def set_size(self, uint32_t number, uint64_t size):
        """Tells a volume's size; one that is not open is passed over."""
        volume_pages_set_size(&self.native, number, size)

    def take_written(self, uint32_t number=0):
        """(number, nanoseconds since 1970) of volumes written without Python since this was asked;
        of one, or of all (0)."""
        cdef int64_t nanoseconds = 0
        cdef uint32_t found
        written = []
        found = volume_pages_take_written(&self.native, number, &nanoseconds)
        while found:
            written.append((found, nanoseconds))
            found = volume_pages_take_written(&self.native, number, &nanoseconds)
        return written

    # -- the data path, for who has Python anyway: tests, benchmarks -----------------------------

    def answer_read(self, uint64_t handle, uint64_t offset, uint8_t[::1] out not None):
        """Fills out as a request is answered; False where that takes the long way."""
        cdef page_reader *reader = self.native.data_path.new_reader(&self.native)
        cdef int answer
        if reader == NULL:
            raise MemoryError("codec contexts")
        with nogil:
            answer = self.native.data_path.read(
                &self.native, reader, handle, offset, <size_t>out.shape[0],
                &out[0] if out.shape[0] else NULL)
            self.native.data_path.free_reader(reader)
        return answer == DATA_PATH_DONE

    def answer_write(self, uint64_t handle, uint64_t offset, const uint8_t[::1] data not None):
        """Writes as a request is answered; False where that takes the long way."""
        cdef int answer
        with nogil:
            answer = self.native.data_path.write(
                &self.native, handle, offset, <size_t>data.shape[0],
                &data[0] if data.shape[0] else NULL)
        return answer == DATA_PATH_DONE

    def answer_punch(self, uint64_t handle, uint64_t offset, uint64_t size):
        """Punches as a request is answered; False where that takes the long way."""
        cdef int answer
        with nogil:
            answer = self.native.data_path.punch(&self.native, handle, offset,
                                                                   size)
        return answer == DATA_PATH_DONE

    # -- the write buffer ------------------------------------------------------------------------

    @property
    def slots(self):
        """Pages that the buffer has room for."""
        return self.buffer.count

    @property
    def available(self):
        """Slots that are free."""
        return self.buffer.available

    @property
    def is_crowded(self):
        """Whether half of the slots or more are in use."""
        return bool(buffer_is_crowded(&self.buffer))

    @property
    def waiting_count(self):
        return self.buffer.waiting.count

    @property
    def routing_count(self):
        return self.buffer.routing.count

    @property
    def resident_slots(self):
        """Slots of the buffer that have memory, in use or not."""
        pthread_rwlock_rdlock(&self.chunks.lock)  # two numbers that belong together
        cdef uint32_t slots = write_buffer_resident(&self.buffer)
        pthread_rwlock_unlock(&self.chunks.lock)
        return slots

    def give_back_memory(self):
        """Gives the system the memory of slots that nobody used since this was called last; how many
        pages that were."""
        cdef uint32_t first = 0
        cdef uint32_t given = 0
        with nogil:
            while first < self.buffer.count:
                pthread_rwlock_wrlock(&self.chunks.lock)  # for few at a time: others wait
                given += write_buffer_give_back(&self.buffer, first, SLOTS_A_TURN)
                pthread_rwlock_unlock(&self.chunks.lock)
                first += SLOTS_A_TURN
        return given

    def wake(self):
        """Ends a wait_for_work(), the next one if there is none now."""
        signal_mark_set(&self.work)

    def wait_for_work(self, double seconds):
        """Returns when the buffer has become crowded, after wake(), or after so long."""
        with nogil:
            signal_mark_wait(&self.work, seconds)

    def buffered(self, uint32_t volume):
        """Pages of the volume in the buffer; one that waits and is routing counts twice. O(1)."""
        pthread_rwlock_rdlock(&self.chunks.lock)
        cdef uint64_t pages = write_buffer_pages(&self.buffer, volume)
        pthread_rwlock_unlock(&self.chunks.lock)
        return pages

    def has_room(self, uint32_t volume):
        """Whether a page of the volume finds room in the buffer now."""
        pthread_rwlock_rdlock(&self.chunks.lock)
        cdef bint room = write_buffer_has_room(&self.buffer, volume, 1)
        pthread_rwlock_unlock(&self.chunks.lock)
        return room

    def is_buffered(self, uint64_t key):
        """Whether the page is in the buffer."""
        pthread_rwlock_rdlock(&self.chunks.lock)
        cdef uint32_t slot = write_buffer_slot(&self.buffer, key)
        pthread_rwlock_unlock(&self.chunks.lock)
        return slot != NO_SLOT

    def copy_buffered(self, uint64_t key, uint8_t[::1] out not None):
        """Copies the newest bytes of a page in the buffer to out; False when it is not there."""
        if out.shape[0] < PAGE_BYTES:
            raise ValueError("the buffer is too small")
        return bool(volume_pages_copy_buffered(&self.native, key, &out[0]))

    def waiting(self, volumes=None):
        """The keys of all pages that wait, or of those of some volumes, least recently written
        first."""
        keys = KEY * <Py_ssize_t>self.buffer.count
        cdef uint64_t[::1] places = keys
        cdef size_t count, i
        cdef size_t kept = 0
        pthread_rwlock_rdlock(&self.chunks.lock)
        count = write_buffer_oldest(&self.buffer, self.buffer.count, <uint64_t>-1,
                                    &places[0])
        pthread_rwlock_unlock(&self.chunks.lock)
        if volumes is None:
            return keys[:<Py_ssize_t>count]
        cdef const uint32_t[::1] numbers = array("I", sorted(volumes))
        for i in range(count):
            places[kept] = places[i]
            kept += is_among(numbers, <uint32_t>(places[i] >> 32))
        return keys[:<Py_ssize_t>kept]

    def routing(self):
        """The keys of all pages that are being routed, in no order."""
        keys = KEY * <Py_ssize_t>self.buffer.count
        cdef uint64_t[::1] places = keys
        cdef Py_ssize_t count = 0
        cdef size_t at = 0
        pthread_rwlock_rdlock(&self.chunks.lock)
        while key_map_next(&self.buffer.routing, &at,
                           &places[0] + count) != NULL:
            count += 1
        pthread_rwlock_unlock(&self.chunks.lock)
        return keys[:count]

    def oldest(self, Py_ssize_t most, uint64_t latest):
        """The keys of at most so many pages, longest waiting first, not written after `latest`."""
        keys = KEY * most
        cdef uint64_t[::1] places = keys
        cdef size_t count
        pthread_rwlock_rdlock(&self.chunks.lock)
        count = write_buffer_oldest(&self.buffer, <size_t>most, latest,
                                    &places[0])
        pthread_rwlock_unlock(&self.chunks.lock)
        return keys[:<Py_ssize_t>count]

    def those_waiting(self, const uint64_t[::1] keys not None):
        """Those of the keys whose pages wait."""
        waiting = KEY * keys.shape[0]
        cdef uint64_t[::1] places = waiting
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t i
        pthread_rwlock_rdlock(&self.chunks.lock)
        for i in range(keys.shape[0]):
            places[count] = keys[i]
            count += write_buffer_waiting(&self.buffer, keys[i]) != NO_SLOT
        pthread_rwlock_unlock(&self.chunks.lock)
        return waiting[:count]

    def next_buffered(self, uint32_t volume, uint64_t first, uint64_t end):
        """The first of the volume's pages [first, end) in the buffer, or `end`. O(the fewer of the
        range's pages and the buffer's)."""
        cdef uint64_t found
        with nogil:
            found = volume_pages_next_buffered(&self.native, volume, first, end)
        return found

    def put(self, uint64_t key, const uint8_t[::1] data not None):
        """Puts whole pages, with keys from `key` on, as far as there is room; how many."""
        cdef size_t count = <size_t>data.shape[0] // PAGE_BYTES
        cdef size_t done
        if count == 0:
            return 0
        with nogil:
            done = volume_pages_put(&self.native, key, &data[0], count)
        return done

    def write_waiting(self, uint64_t key, size_t start, const uint8_t[::1] data not None):
        """Writes into a page that waits; False when it does not."""
        cdef size_t length = <size_t>data.shape[0]
        if length == 0 or start + length > PAGE_BYTES:
            raise IndexError(start + length)
        return bool(volume_pages_write_waiting(&self.native, key, start, &data[0], length))

    def place(self, uint64_t key):
        """Where the newest bytes of a page are now, for put_from()."""
        cdef Place place = Place()
        volume_pages_place(&self.native, key, &place.native)
        return place

    def put_from(self, uint64_t key, Place place not None, const uint8_t[::1] page not None):
        """Puts a page made from the bytes that were at a place: True; False when the page has others
        by now; None when no slot is free. The store's lock must be held from place() on."""
        cdef int result = volume_pages_put_from(&self.native, key, &place.native, one_page(page))
        return None if result < 0 else result == 0

    def forget(self, uint32_t volume, uint64_t first, uint64_t end):
        """Drops the volume's pages [first, end) from the buffer; those that are routing are not
        mapped. How many slots became free."""
        cdef size_t freed = 0
        if first < end:
            with nogil:
                freed = volume_pages_forget(&self.native, volume, first, end)
        return freed

    # -- routing ---------------------------------------------------------------------------------

    def begin(self, const uint64_t[::1] keys not None, uint8_t[::1] out not None):
        """Those of the pages that wait are routing from here on, and copied to `out`: their keys, and
        their slots. A page may have been punched since it was chosen: punches take no turns with
        the routing thread."""
        cdef Py_ssize_t count = keys.shape[0]
        cdef Py_ssize_t begun = 0
        cdef Py_ssize_t i
        started = KEY * count
        slots = NUMBER * count
        cdef uint64_t[::1] places = started
        cdef uint32_t[::1] numbers = slots
        if out.shape[0] < count * PAGE_BYTES:
            raise ValueError("the buffer is too small")
        pthread_rwlock_wrlock(&self.chunks.lock)
        for i in range(count):
            places[begun] = keys[i]
            numbers[begun] = write_buffer_begin(&self.buffer, keys[i])
            begun += numbers[begun] != NO_SLOT
        pthread_rwlock_unlock(&self.chunks.lock)
        with nogil:  # nobody writes into slots that are routing
            for i in range(begun):
                memcpy(&out[i * PAGE_BYTES],
                       write_buffer_page(&self.buffer, numbers[i]), PAGE_BYTES)
        return started[:begun], slots[:begun]

    def adopt(self, const uint64_t[::1] keys not None, const uint32_t[::1] slots not None,
              const uint32_t[::1] ids not None):
        """Maps routed pages to their objects and ends their routing; their chunks are in memory. The
        objects of pages that were dropped meanwhile are released. How many were mapped."""
        cdef Py_ssize_t count = keys.shape[0]
        cdef long mapped
        if slots.shape[0] != count or ids.shape[0] != count:
            raise ValueError("as many slots and ids as keys")
        if count == 0:
            return 0
        mapped = volume_pages_adopt(&self.native, &keys[0], &slots[0], &ids[0], <size_t>count)
        if mapped < 0:
            raise MemoryError("page tables")
        return mapped

    def put_back(self, const uint64_t[::1] keys not None, const uint32_t[::1] slots not None):
        """Ends a batch that could not be stored: its pages wait again, as the oldest."""
        cdef Py_ssize_t i
        if slots.shape[0] != keys.shape[0]:
            raise ValueError("as many slots as keys")
        pthread_rwlock_wrlock(&self.chunks.lock)
        for i in range(keys.shape[0] - 1, -1, -1):  # so that the first becomes the oldest
            write_buffer_put_back(&self.buffer, keys[i], slots[i])
        pthread_rwlock_unlock(&self.chunks.lock)
