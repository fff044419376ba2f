#include "volume_pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Pages that are looked up, and copied, in one turn with the lock. */
#define PAGES_A_TURN 16u

/* How often a page that was moved meanwhile is looked up again before the long way is taken. */
#define TRIES 4

/* Pages that punching makes holes natively; a longer range may drop whole chunks. */
#define PUNCHED_PAGES 4096u

static int64_t nanoseconds_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + (int64_t)now.tv_nsec;
}

/* The chunk of the page table that a page is in, or NULL when it is not in memory. */
static struct table_chunk *chunk_of(const struct volume_pages *pages, uint32_t volume,
                                    uint64_t page) {
    return page_tables_find(pages->tables, volume, (uint32_t)(page / TABLE_ENTRIES));
}

/* -- a mark that a thread waits for ------------------------------------------------------------- */

int signal_mark_init(struct signal_mark *mark) {
    pthread_condattr_t attributes;
    memset(mark, 0, sizeof *mark);
    if (pthread_condattr_init(&attributes)) {
        return -1;
    }
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int failed = pthread_mutex_init(&mark->mutex, NULL) ||
                 pthread_cond_init(&mark->condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return failed ? -1 : 0;
}

void signal_mark_free(struct signal_mark *mark) {
    pthread_cond_destroy(&mark->condition);
    pthread_mutex_destroy(&mark->mutex);
}

void signal_mark_set(struct signal_mark *mark) {
    pthread_mutex_lock(&mark->mutex);
    mark->is_set = 1;
    pthread_cond_signal(&mark->condition);
    pthread_mutex_unlock(&mark->mutex);
}

void signal_mark_wait(struct signal_mark *mark, double seconds) {
    int64_t until = nanoseconds_of(CLOCK_MONOTONIC) + (int64_t)(seconds * 1e9);
    struct timespec limit = {until / 1000000000, until % 1000000000};
    pthread_mutex_lock(&mark->mutex);
    while (!mark->is_set &&
           pthread_cond_timedwait(&mark->condition, &mark->mutex, &limit) != ETIMEDOUT) {
    }
    mark->is_set = 0;
    pthread_mutex_unlock(&mark->mutex);
}

uint64_t volume_pages_tick(const struct volume_pages *pages) {
    uint64_t fixed = __atomic_load_n(&pages->fixed_tick, __ATOMIC_RELAXED);
    return fixed != 0 ? fixed : (uint64_t)nanoseconds_of(CLOCK_MONOTONIC_COARSE) / 100000000u;
}

/* -- open volumes ------------------------------------------------------------------------------- */

int volume_pages_open(struct volume_pages *pages, uint64_t handle, uint32_t number, uint64_t size,
                      int is_writer) {
    struct open_handle *opened = calloc(1, sizeof *opened);
    int failed = opened == NULL;
    pthread_rwlock_wrlock(pages->lock);
    struct open_volume *volume = key_map_get(&pages->volumes, number);
    if (!failed && volume == NULL) {
        volume = calloc(1, sizeof *volume);
        failed = volume == NULL || key_map_put(&pages->volumes, number, volume);
        if (failed) {
            free(volume);
        } else {
            volume->number = number;
        }
    }
    failed = failed || key_map_put(&pages->handles, handle, opened);
    if (!failed) {
        opened->volume = volume;
        opened->is_writer = is_writer;
        volume->size = size;
        volume->handles++;
    }
    pthread_rwlock_unlock(pages->lock);
    if (failed) {
        free(opened);
    }
    return failed ? -1 : 0;
}

/* Volumes stay known while they have a handle, or a time that nobody has asked for. */
static void forget_unused(struct volume_pages *pages, struct open_volume *volume) {
    if (volume->handles == 0 && volume->written_nanoseconds == 0) {
        key_map_remove(&pages->volumes, volume->number);
        free(volume);
    }
}

void volume_pages_close(struct volume_pages *pages, uint64_t handle) {
    pthread_rwlock_wrlock(pages->lock);
    struct open_handle *opened = key_map_remove(&pages->handles, handle);
    if (opened != NULL) {
        opened->volume->handles--;
        forget_unused(pages, opened->volume);
        free(opened);
    }
    pthread_rwlock_unlock(pages->lock);
}

void volume_pages_set_size(struct volume_pages *pages, uint32_t number, uint64_t size) {
    pthread_rwlock_wrlock(pages->lock);
    struct open_volume *volume = key_map_get(&pages->volumes, number);
    if (volume != NULL) {
        volume->size = size;
    }
    pthread_rwlock_unlock(pages->lock);
}

uint32_t volume_pages_take_written(struct volume_pages *pages, uint32_t number,
                                   int64_t *nanoseconds) {
    uint32_t found = 0;
    size_t at = 0;
    uint64_t key;
    pthread_rwlock_wrlock(pages->lock);
    struct open_volume *volume = number != 0 ? key_map_get(&pages->volumes, number)
                                             : key_map_next(&pages->volumes, &at, &key);
    while (volume != NULL && volume->written_nanoseconds == 0) {
        volume = number != 0 ? NULL : key_map_next(&pages->volumes, &at, &key);
    }
    if (volume != NULL) {
        found = volume->number;
        *nanoseconds = volume->written_nanoseconds;
        volume->written_nanoseconds = 0;
        forget_unused(pages, volume);
    }
    pthread_rwlock_unlock(pages->lock);
    return found;
}

/* -- reading ------------------------------------------------------------------------------------ */

struct page_reader {
    codec_context *context;
    const codec_dictionary *dictionary;
    struct object_snapshot snapshots[PAGES_A_TURN];
    uint32_t ids[PAGES_A_TURN];
};

static struct page_reader *new_reader(void *self) {
    (void)self;
    struct page_reader *reader = calloc(1, sizeof *reader);
    if (reader != NULL && (reader->context = codec_context_new()) == NULL) {
        free(reader);
        reader = NULL;
    }
    return reader;
}

static void free_reader(struct page_reader *reader) {
    codec_context_free(reader->context);
    free(reader);
}

/* Copies what is in the buffer, and takes snapshots of the rest. With the lock held. */
static enum read_status look_up(struct volume_pages *pages, struct page_reader *reader,
                                uint32_t volume, uint64_t first, uint32_t count, uint8_t *out) {
    for (uint32_t i = 0; i < count; i++) {
        uint64_t page = first + i;
        uint32_t slot = pages->buffer == NULL
                            ? NO_SLOT
                            : write_buffer_slot(pages->buffer, (uint64_t)volume << 32 | page);
        reader->ids[i] = ID_HOLE;
        if (slot != NO_SLOT) {
            memcpy(out + (size_t)i * PAGE_BYTES, write_buffer_page(pages->buffer, slot),
                   PAGE_BYTES);
            continue;
        }
        struct table_chunk *chunk = chunk_of(pages, volume, page);
        if (chunk == NULL) {
            return READ_HEADER_MISSING;
        }
        __atomic_store_n(&chunk->touched, 1, __ATOMIC_RELAXED);
        uint32_t id = chunk_ids(chunk)[page % TABLE_ENTRIES];
        if (id == ID_LOST) {
            return READ_LOST; /* the long way tells */
        }
        if (!id_is_object(id)) {
            memset(out + (size_t)i * PAGE_BYTES, 0, PAGE_BYTES);
            continue;
        }
        enum read_status status = extents_snapshot(pages->extents, id, &reader->snapshots[i]);
        if (status != READ_OK) {
            return status;
        }
        reader->ids[i] = id;
    }
    return READ_OK;
}

static enum read_status decode(struct volume_pages *pages, struct page_reader *reader,
                               uint32_t count, uint8_t *out) {
    int64_t began = nanoseconds_of(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < count; i++) {
        if (reader->ids[i] == ID_HOLE) {
            continue;
        }
        struct read_result result =
            extents_read_snapshot(pages->extents, reader->context, &reader->snapshots[i],
                                  out + (size_t)i * PAGE_BYTES);
        if (result.status != READ_OK) {
            return result.status;
        }
        int64_t ended = nanoseconds_of(CLOCK_MONOTONIC);
        __atomic_fetch_add(&pages->decoded[result.codec], 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&pages->decode_nanoseconds[result.codec], (uint64_t)(ended - began),
                           __ATOMIC_RELAXED);
        extents_count_decoded(pages->extents, reader->ids[i], (uint64_t)(ended - began));
        began = ended;
    }
    return READ_OK;
}

static enum read_status read_some(struct volume_pages *pages, struct page_reader *reader,
                                  uint32_t volume, uint64_t first, uint32_t count, uint8_t *out) {
    enum read_status status = READ_STALE;
    for (int i = 0; i < TRIES && status == READ_STALE; i++) {
        pthread_rwlock_rdlock(pages->lock);
        status = look_up(pages, reader, volume, first, count, out);
        pthread_rwlock_unlock(pages->lock);
        if (status != READ_OK) {
            break;
        }
        /* Set before the first object that needs it was mapped. */
        const codec_dictionary *dictionary =
            __atomic_load_n(&pages->dictionary, __ATOMIC_ACQUIRE);
        if (dictionary != reader->dictionary) {
            codec_context_use(reader->context, dictionary);
            reader->dictionary = dictionary;
        }
        codec_context_use_for_groups(reader->context,
                                     __atomic_load_n(&pages->group_dictionary, __ATOMIC_ACQUIRE));
        status = decode(pages, reader, count, out);
    }
    return status;
}

/* The volume behind a handle, for whole pages within it; 0 where the long way must be taken. */
static struct open_volume *volume_of(struct volume_pages *pages, uint64_t handle, uint64_t offset,
                                     uint64_t size, int to_write) {
    struct open_handle *opened = key_map_get(&pages->handles, handle);
    if (opened == NULL || (to_write && !opened->is_writer) || offset % PAGE_BYTES != 0 ||
        size % PAGE_BYTES != 0 || size == 0 || offset + size < size ||
        offset + size > opened->volume->size) {
        return NULL;
    }
    return opened->volume;
}

static enum data_path_answer data_path_read(void *self, struct page_reader *reader,
                                            uint64_t handle, uint64_t offset, size_t size,
                                            uint8_t *out) {
    struct volume_pages *pages = self;
    pthread_rwlock_rdlock(pages->lock);
    const struct open_volume *open = volume_of(pages, handle, offset, size, 0);
    uint32_t volume = open == NULL ? 0 : open->number;
    pthread_rwlock_unlock(pages->lock);
    if (open == NULL) {
        return DATA_PATH_LONG_WAY;
    }
    uint64_t first = offset / PAGE_BYTES;
    uint64_t end = first + size / PAGE_BYTES;
    while (first < end) {
        uint32_t count = end - first < PAGES_A_TURN ? (uint32_t)(end - first) : PAGES_A_TURN;
        if (read_some(pages, reader, volume, first, count, out) != READ_OK) {
            return DATA_PATH_LONG_WAY;
        }
        out += (size_t)count * PAGE_BYTES;
        first += count;
    }
    return DATA_PATH_DONE;
}

/* -- writing ------------------------------------------------------------------------------------ */

/* Puts some whole pages; how many found room. With the lock held for writing. *wake becomes 1 when the
 * routing thread is to look: it has waited for the first page, or there is too much. */
static size_t put(struct volume_pages *pages, uint64_t key, const uint8_t *data, size_t count,
                  int *wake) {
    *wake |= pages->buffer->waiting.count == 0;
    uint64_t tick = volume_pages_tick(pages);
    size_t done = 0;
    while (done < count &&
           write_buffer_put(pages->buffer, key + done, data + done * PAGE_BYTES, tick) == 0) {
        done++;
    }
    *wake |= buffer_is_crowded(pages->buffer);
    return done;
}

size_t volume_pages_put(struct volume_pages *pages, uint64_t key, const uint8_t *data,
                        size_t count) {
    size_t done = 0;
    int found_room = 1;
    int wake = 0;
    while (done < count && found_room) {
        size_t some = count - done < PAGES_A_TURN ? count - done : PAGES_A_TURN;
        pthread_rwlock_wrlock(pages->lock);
        size_t put_now = put(pages, key + done, data + done * PAGE_BYTES, some, &wake);
        pthread_rwlock_unlock(pages->lock);
        found_room = put_now == some;
        done += put_now;
    }
    if (wake) {
        signal_mark_set(pages->work);
    }
    return done;
}

static enum data_path_answer data_path_write(void *self, uint64_t handle, uint64_t offset,
                                             size_t size, const uint8_t *data) {
    struct volume_pages *pages = self;
    size_t done = 0;
    size_t count = size / PAGE_BYTES;
    int answerable = 1;
    int wake = 0;
    int64_t now = nanoseconds_of(CLOCK_REALTIME_COARSE);
    while (answerable && done < count) {
        size_t some = count - done < PAGES_A_TURN ? count - done : PAGES_A_TURN;
        pthread_rwlock_wrlock(pages->lock);
        /* Looked up each time: its size may have become less. What was put before that is cut off with
         * the rest, and what is put again by the long way is the same. */
        struct open_volume *volume = volume_of(pages, handle, offset, size, 1);
        answerable = volume != NULL && !__atomic_load_n(&pages->is_refusing, __ATOMIC_RELAXED);
        if (answerable) {
            uint64_t key = ((uint64_t)volume->number << 32 | offset / PAGE_BYTES) + done;
            size_t put_now = put(pages, key, data + done * PAGE_BYTES, some, &wake);
            volume->written_nanoseconds = now;
            answerable = put_now == some;
            done += put_now;
        }
        pthread_rwlock_unlock(pages->lock);
    }
    if (wake) {
        signal_mark_set(pages->work);
    }
    return answerable && count != 0 ? DATA_PATH_DONE : DATA_PATH_LONG_WAY;
}

/* -- holes -------------------------------------------------------------------------------------- */

static int chunks_are_here(const struct volume_pages *pages, uint32_t volume, uint64_t first,
                           uint64_t end) {
    for (uint64_t chunk = first / TABLE_ENTRIES; chunk <= (end - 1u) / TABLE_ENTRIES; chunk++) {
        if (page_tables_find(pages->tables, volume, (uint32_t)chunk) == NULL) {
            return 0;
        }
    }
    return 1;
}

static void punch_pages(struct volume_pages *pages, uint32_t volume, uint64_t first,
                        uint64_t end) {
    for (uint64_t page = first; page < end; page++) {
        struct table_chunk *chunk = chunk_of(pages, volume, page);
        uint32_t entry = (uint32_t)(page % TABLE_ENTRIES);
        write_buffer_forget(pages->buffer, (uint64_t)volume << 32 | page);
        if (chunk_ids(chunk)[entry] != ID_HOLE) {
            page_tables_set(pages->tables, chunk, entry, ID_HOLE);
        }
    }
}

static enum data_path_answer data_path_punch(void *self, uint64_t handle, uint64_t offset,
                                             uint64_t size) {
    struct volume_pages *pages = self;
    int done = 0;
    int64_t now = nanoseconds_of(CLOCK_REALTIME_COARSE);
    if (size / PAGE_BYTES > PUNCHED_PAGES) {
        return DATA_PATH_LONG_WAY;
    }
    pthread_rwlock_wrlock(pages->lock);
    struct open_volume *volume = volume_of(pages, handle, offset, size, 1);
    uint64_t first = offset / PAGE_BYTES;
    uint64_t end = first + size / PAGE_BYTES;
    if (volume != NULL && !__atomic_load_n(&pages->is_refusing, __ATOMIC_RELAXED) &&
        !pages->are_tables_held && chunks_are_here(pages, volume->number, first, end) &&
        page_tables_expect(pages->tables, end - first) == 0) {
        punch_pages(pages, volume->number, first, end);
        volume->written_nanoseconds = now;
        done = 1;
    }
    pthread_rwlock_unlock(pages->lock);
    return done ? DATA_PATH_DONE : DATA_PATH_LONG_WAY;
}

uint64_t volume_pages_next_buffered(struct volume_pages *pages, uint32_t volume, uint64_t first,
                                    uint64_t end) {
    uint64_t base = (uint64_t)volume << 32;
    uint64_t found = end;
    pthread_rwlock_rdlock(pages->lock);
    const struct write_buffer *buffer = pages->buffer;
    if (first < end && write_buffer_pages(buffer, volume) != 0) {
        if (end - first <= buffer->waiting.count + buffer->routing.count) {
            for (found = first; found < end; found++) {
                if (write_buffer_slot(buffer, base + found) != NO_SLOT) {
                    break;
                }
            }
        } else {
            /* Each slot names its page, or the one that it held last. */
            for (uint32_t slot = 0; slot < buffer->untouched; slot++) {
                uint64_t key = buffer->slots[slot].key;
                if (key >= base + first && key < base + found &&
                    write_buffer_slot(buffer, key) != NO_SLOT) {
                    found = key - base;
                }
            }
        }
    }
    pthread_rwlock_unlock(pages->lock);
    return found;
}

size_t volume_pages_forget(struct volume_pages *pages, uint32_t volume, uint64_t first,
                           uint64_t end) {
    size_t freed = 0;
    uint64_t base = (uint64_t)volume << 32;
    pthread_rwlock_wrlock(pages->lock);
    struct write_buffer *buffer = pages->buffer;
    if (write_buffer_pages(buffer, volume) != 0) {
        size_t used = buffer->waiting.count + buffer->routing.count;
        if (end - first <= used) {
            for (uint64_t page = first; page < end; page++) {
                freed += write_buffer_forget(buffer, base + page);
            }
        } else {
            /* Each slot names its page, or the one that it held last. */
            for (uint32_t slot = 0; slot < buffer->untouched; slot++) {
                uint64_t key = buffer->slots[slot].key;
                if (key >= base + first && key < base + end) {
                    freed += write_buffer_forget(buffer, key);
                }
            }
        }
    }
    pthread_rwlock_unlock(pages->lock);
    return freed;
}

/* -- what the volumes in Python ask for --------------------------------------------------------- */

static void find_place(const struct volume_pages *pages, uint64_t key, struct page_place *place) {
    struct table_chunk *chunk = chunk_of(pages, (uint32_t)(key >> 32), key & UINT32_MAX);
    place->routing = write_buffer_routing(pages->buffer, key);
    place->is_known = chunk != NULL;
    place->id = chunk == NULL ? ID_HOLE : chunk_ids(chunk)[(key & UINT32_MAX) % TABLE_ENTRIES];
}

void volume_pages_place(struct volume_pages *pages, uint64_t key, struct page_place *place) {
    pthread_rwlock_rdlock(pages->lock);
    find_place(pages, key, place);
    pthread_rwlock_unlock(pages->lock);
}

int volume_pages_put_from(struct volume_pages *pages, uint64_t key, const struct page_place *place,
                          const uint8_t *page) {
    struct page_place now;
    pthread_rwlock_wrlock(pages->lock);
    find_place(pages, key, &now);
    int result = 1;
    int wake = 0;
    if (write_buffer_waiting(pages->buffer, key) == NO_SLOT && now.routing == place->routing &&
        (now.id == place->id || !now.is_known || !place->is_known)) {
        result = put(pages, key, page, 1, &wake) == 1 ? 0 : -1;
    }
    pthread_rwlock_unlock(pages->lock);
    if (wake) {
        signal_mark_set(pages->work);
    }
    return result;
}

int volume_pages_write_waiting(struct volume_pages *pages, uint64_t key, size_t start,
                               const uint8_t *data, size_t length) {
    uint64_t tick = volume_pages_tick(pages);
    pthread_rwlock_wrlock(pages->lock);
    int waits = write_buffer_write(pages->buffer, key, start, data, length, tick);
    pthread_rwlock_unlock(pages->lock);
    return waits;
}

int volume_pages_copy_buffered(struct volume_pages *pages, uint64_t key, uint8_t *out) {
    pthread_rwlock_rdlock(pages->lock);
    uint32_t slot = write_buffer_slot(pages->buffer, key);
    if (slot != NO_SLOT) {
        memcpy(out, write_buffer_page(pages->buffer, slot), PAGE_BYTES);
    }
    pthread_rwlock_unlock(pages->lock);
    return slot != NO_SLOT;
}

long volume_pages_adopt(struct volume_pages *pages, const uint64_t *keys, const uint32_t *slots,
                        const uint32_t *ids, size_t count) {
    long mapped = 0;
    pthread_rwlock_wrlock(pages->lock);
    int ready = page_tables_expect(pages->tables, count) == 0;
    for (size_t i = 0; ready && i < count; i++) {
        ready = chunk_of(pages, (uint32_t)(keys[i] >> 32), keys[i] & UINT32_MAX) != NULL &&
                page_tables_count(pages->tables, (uint32_t)(keys[i] >> 32), 0, 0, 0) == 0;
    }
    for (size_t i = 0; ready && i < count; i++) {
        uint32_t volume = (uint32_t)(keys[i] >> 32);
        uint64_t page = keys[i] & UINT32_MAX;
        if (write_buffer_finish(pages->buffer, keys[i], slots[i])) {
            struct table_chunk *chunk = chunk_of(pages, volume, page);
            page_tables_set(pages->tables, chunk, (uint32_t)(page % TABLE_ENTRIES), ids[i]);
            mapped++;
        } else if (id_is_object(ids[i])) {
            page_tables_release(pages->tables, ids[i]);
        }
    }
    pthread_rwlock_unlock(pages->lock);
    return ready ? mapped : -1;
}

/* -- all of it ---------------------------------------------------------------------------------- */

void volume_pages_init(struct volume_pages *pages, pthread_rwlock_t *lock,
                       struct page_tables *tables, struct write_buffer *buffer,
                       struct extents *extents, struct signal_mark *work) {
    memset(pages, 0, sizeof *pages);
    pages->lock = lock;
    pages->tables = tables;
    pages->buffer = buffer;
    pages->extents = extents;
    pages->work = work;
    pages->data_path = (struct data_path){pages,          new_reader,      free_reader,
                                          data_path_read, data_path_write, data_path_punch};
}

static void free_all(struct key_map *map) {
    size_t at = 0;
    uint64_t key;
    void *value;
    while ((value = key_map_next(map, &at, &key)) != NULL) {
        free(value);
    }
    key_map_free(map);
}

void volume_pages_free(struct volume_pages *pages) {
    free_all(&pages->handles);
    free_all(&pages->volumes);
}
