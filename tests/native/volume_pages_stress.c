/* The native data path without Python: readers, writers, punchers and a router at once, on real extents
 * in a file. Built with ThreadSanitizer by test_threads.py; ends with status 1 and a line on stderr when
 * a page is another's, is torn, or is older than what had been written before the read began.
 *
 * Each page holds its own number and a version in every 16 bytes. A version that a writer has finished
 * is in `done`, one that it has begun in `begun`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "extents.h"
#include "volume_pages.h"

#define PAGES 300u /* fewer than a chunk of the page table has */
#define SLOTS 64u
#define VOLUME 7u
#define BATCH 16u
#define WRITER_HANDLE 1u

static struct extents extents;
static struct page_tables tables;
static struct write_buffer buffer;
static struct volume_pages pages;
static struct signal_mark work;
static pthread_rwlock_t page_lock;

static uint32_t begun[PAGES];
static uint32_t done[PAGES];
static int ended;
static unsigned long reads, long_ways, flips;

static int is_over(void) { return __atomic_load_n(&ended, __ATOMIC_ACQUIRE); }

static void fail(const char *what, unsigned page, unsigned long detail) {
    fprintf(stderr, "page %u: %s (%lu)\n", page, what, detail);
    _exit(1);
}

static void fill(uint8_t *page, uint32_t number, uint32_t version) {
    uint64_t words[2] = {number, version};
    for (unsigned i = 0; i < PAGE_BYTES; i += 16) {
        memcpy(page + i, words, 16);
    }
}

static void judge(const uint8_t *page, uint32_t number, uint32_t before, uint32_t after) {
    uint64_t first[2];
    memcpy(first, page, 16);
    for (unsigned i = 16; i < PAGE_BYTES; i += 16) {
        if (memcmp(page + i, first, 16) != 0) {
            fail("torn", number, i);
        }
    }
    /* A hole is a version that is a multiple of four. */
    if (first[0] == 0 && first[1] == 0) {
        for (uint32_t version = before; version <= after; version++) {
            if (version % 4u == 0) {
                return;
            }
        }
        fail("a hole", number, before);
    }
    if (first[0] != number) {
        fail("another's", number, first[0]);
    }
    if (first[1] < before || first[1] > after) {
        fail("of another time", number, first[1]);
    }
}

static unsigned next_random(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void *write_pages(void *argument) {
    unsigned part = (unsigned)(uintptr_t)argument;
    unsigned state = part + 1u;
    uint8_t page[PAGE_BYTES];
    while (!is_over()) {
        uint32_t number = next_random(&state) % PAGES / 2u * 2u + part;
        uint32_t version = done[number] + 1u;
        __atomic_store_n(&begun[number], version, __ATOMIC_RELEASE);
        uint64_t offset = (uint64_t)number * PAGE_BYTES;
        if (version % 4u == 0) {
            while (pages.data_path.punch(&pages, WRITER_HANDLE, offset, PAGE_BYTES) !=
                   DATA_PATH_DONE) {
            }
        } else {
            fill(page, number, version);
            while (pages.data_path.write(&pages, WRITER_HANDLE, offset, PAGE_BYTES, page) !=
                       DATA_PATH_DONE &&
                   !is_over()) {
                usleep(100);
            }
        }
        if (!is_over()) {
            __atomic_store_n(&done[number], version, __ATOMIC_RELEASE);
        }
    }
    return NULL;
}

static void *read_pages(void *argument) {
    unsigned state = 100u + (unsigned)(uintptr_t)argument;
    struct page_reader *reader = pages.data_path.new_reader(&pages);
    uint8_t found[4u * PAGE_BYTES];
    uint32_t before[4];
    while (!is_over()) {
        uint32_t first = next_random(&state) % (PAGES - 3u);
        for (unsigned i = 0; i < 4; i++) {
            before[i] = __atomic_load_n(&done[first + i], __ATOMIC_ACQUIRE);
        }
        if (pages.data_path.read(&pages, reader, WRITER_HANDLE, (uint64_t)first * PAGE_BYTES,
                                 sizeof found, found) != DATA_PATH_DONE) {
            __atomic_fetch_add(&long_ways, 1, __ATOMIC_RELAXED);
            continue;
        }
        __atomic_fetch_add(&reads, 1, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < 4; i++) {
            judge(found + i * PAGE_BYTES, first + i, before[i],
                  __atomic_load_n(&begun[first + i], __ATOMIC_ACQUIRE));
        }
    }
    pages.data_path.free_reader(reader);
    return NULL;
}

/* -- the router: raw payloads, behind one another in extents that it rewrites when they are full ---- */

static union extent_header header;
static uint32_t extent_number = 1;

static off_t side_at(uint32_t number, unsigned side) {
    return ((off_t)number * 2 + (off_t)side) * (off_t)EXTENT_SIDE_BYTES;
}

static void write_at(off_t position, const uint8_t *bytes, size_t length) {
    if (pwrite(extents.file, bytes, length, position) != (ssize_t)length) {
        fail("cannot be written", 0, (unsigned long)errno);
    }
}

static void install(void) {
    if (extents_load(&extents, extent_number, &header, HEADER_DIRTY)) {
        fail("no memory", 0, 0);
    }
}

static void begin_extent(uint32_t number) {
    memset(&header, 0, sizeof header);
    extent_number = number;
    install();
}

/* Gives back what page tables released. */
static void settle(void) {
    pthread_rwlock_wrlock(&page_lock);
    size_t count = tables.released.count;
    uint32_t *ids = malloc((count + 1u) * sizeof *ids);
    if (count != 0) {
        memcpy(ids, tables.released.ids, count * sizeof *ids);
    }
    tables.released.count = 0;
    pthread_rwlock_unlock(&page_lock);
    for (size_t i = 0; i < count; i++) {
        struct release_result result;
        if (extents_release(&extents, ids[i], 0, &result)) {
            fail("released too often", ids[i], i);
        }
    }
    free(ids);
}

/* Moves the live payloads of the current extent to its other side, and punches the old one at once: what
 * somebody reads there is thrown away. */
static void rewrite(void) {
    const union extent_header *now = extents.array[extent_number].header;
    union extent_header moved = *now;
    uint8_t payload[PAGE_BYTES];
    unsigned old = now->prefix.generation & 1u;
    uint32_t end = 0;
    moved.prefix.generation++;
    for (uint32_t slot = 1; slot <= EXTENT_SLOTS; slot++) {
        struct object_record *record = &moved.records[slot];
        if (record_codec(record) == CODEC_NONE) {
            continue;
        }
        if (pread(extents.file, payload, PAGE_BYTES,
                  side_at(extent_number, old) + record_offset(record)) != PAGE_BYTES) {
            fail("cannot be read", slot, (unsigned long)errno);
        }
        write_at(side_at(extent_number, old ^ 1u) + end, payload, PAGE_BYTES);
        record->place = end | (PAGE_BYTES - 1u) << 20;
        end += PAGE_BYTES;
    }
    moved.prefix.end = end;
    header = moved;
    install();
    fallocate(extents.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              side_at(extent_number, old), EXTENT_SIDE_BYTES);
    flips++;
}

static uint32_t store_page(const uint8_t *page) {
    header = *extents.array[extent_number].header;
    uint32_t slot = 1;
    while (slot <= EXTENT_SLOTS && record_codec(&header.records[slot]) != CODEC_NONE) {
        slot++;
    }
    if (slot > EXTENT_SLOTS || header.prefix.end + PAGE_BYTES > EXTENT_SIDE_BYTES) {
        rewrite();
        header = *extents.array[extent_number].header;
        if (extents.array[extent_number].live_slots > 150u) {
            begin_extent(extent_number + 1u);
        }
        return store_page(page);
    }
    write_at(side_at(extent_number, header.prefix.generation & 1u) + header.prefix.end, page, PAGE_BYTES);
    struct object_record *record = &header.records[slot];
    record->place = header.prefix.end | (PAGE_BYTES - 1u) << 20;
    record->kind = CODEC_RAW;
    record->digest = (uint32_t)page_digest(page);
    header.prefix.end += PAGE_BYTES;
    if (slot > header.prefix.used) {
        header.prefix.used = (uint8_t)slot;
    }
    install();
    uint32_t id = extent_number << 8 | slot;
    extents_added(&extents, id);
    if (extents_reference(&extents, id, 0)) {
        fail("cannot be referred to", id, 0);
    }
    return id;
}

static void *route(void *unused) {
    (void)unused;
    uint64_t keys[BATCH];
    uint32_t slots[BATCH], ids[BATCH];
    while (!is_over()) {
        pthread_rwlock_wrlock(&page_lock);
        size_t count = write_buffer_oldest(&buffer, BATCH, UINT64_MAX, keys);
        for (size_t i = 0; i < count; i++) {
            slots[i] = write_buffer_begin(&buffer, keys[i]);
        }
        pthread_rwlock_unlock(&page_lock);
        for (size_t i = 0; i < count; i++) {
            ids[i] = store_page(write_buffer_page(&buffer, slots[i]));
        }
        if (count != 0 && volume_pages_adopt(&pages, keys, slots, ids, count) < 0) {
            fail("no memory", 0, 0);
        }
        settle();
    }
    return NULL;
}

int main(int count, char **arguments) {
    double seconds = count > 1 ? atof(arguments[1]) : 1.0;
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&page_lock, &attributes);
    uint8_t *memory = mmap(NULL, SLOTS * PAGE_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (extents_init(&extents) || write_buffer_init(&buffer, memory, SLOTS) ||
        signal_mark_init(&work)) {
        return 2;
    }
    extents.file = memfd_create("payloads", 0);
    volume_pages_init(&pages, &page_lock, &tables, &buffer, &extents, &work);
    begin_extent(extent_number);
    if (page_tables_bring(&tables, VOLUME, 0, NULL) == NULL ||
        volume_pages_open(&pages, WRITER_HANDLE, VOLUME, PAGES * PAGE_BYTES, 1)) {
        return 2;
    }
    pthread_t threads[5];
    pthread_create(&threads[0], NULL, write_pages, (void *)0);
    pthread_create(&threads[1], NULL, write_pages, (void *)1);
    pthread_create(&threads[2], NULL, read_pages, (void *)0);
    pthread_create(&threads[3], NULL, read_pages, (void *)1);
    pthread_create(&threads[4], NULL, route, NULL);
    usleep((useconds_t)(seconds * 1e6));
    __atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < 5; i++) {
        pthread_join(threads[i], NULL);
    }
    printf("%lu reads, %lu long ways, %lu rewrites\n", reads, long_ways, flips);
    volume_pages_free(&pages);
    write_buffer_free(&buffer);
    page_tables_free(&tables);
    extents_free(&extents);
    return 0;
}
