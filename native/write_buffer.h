/* The write buffer: bounded memory for pages that wait to be routed.
 *
 * A page is *waiting* after its last write, and *routing* while the routing thread works on it. It
 * can be both: then what waits is newer. Pages are named by keys, volume << 32 | page number.
 *
 * Lock rule: the store's page lock (native/volume_pages.h) guards all of it, but for the bytes of a
 * slot that is routing: nobody writes into it until the batch has ended. */
#ifndef DIFFFS_WRITE_BUFFER_H
#define DIFFFS_WRITE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "key_map.h"

#define NO_SLOT UINT32_MAX

/* Keys of slots that are free: of late, since the last write_buffer_give_back() at least, and those without
 * memory. (Of slots that were never used it is 0, which is no page's.) */
#define KEY_FREE UINT64_MAX
#define KEY_IDLE (UINT64_MAX - 1u)
#define KEY_EMPTY (UINT64_MAX - 2u)

struct buffer_slot {
    uint64_t key;
    uint64_t tick; /* when it was written; the caller's clock */
    uint32_t older; /* neighbours in the order of last writes; `newer` also chains free slots */
    uint32_t newer;
};

struct write_buffer {
    uint8_t *memory; /* the caller's: a page for each slot */
    struct buffer_slot *slots;
    uint32_t count;
    uint32_t available;
    uint32_t untouched; /* from this one on, slots have never been used: their memory is not there */
    uint32_t emptied;   /* slots without memory among those that were */
    uint32_t free;      /* of those that were, the one given back last */
    uint32_t oldest;    /* of those that wait */
    uint32_t newest;
    struct key_map waiting; /* key to slot + 1, in the pointer */
    struct key_map routing;
    struct key_map pages; /* volume to pages in the buffer + 1; a page that is both counts twice */
};

/* Returns 0, or -1 without memory. */
int write_buffer_init(struct write_buffer *buffer, uint8_t *memory, uint32_t count);
void write_buffer_free(struct write_buffer *buffer);

uint32_t write_buffer_waiting(const struct write_buffer *buffer, uint64_t key);
uint32_t write_buffer_routing(const struct write_buffer *buffer, uint64_t key);

/* The slot with the newest bytes of a page, or NO_SLOT. */
uint32_t write_buffer_slot(const struct write_buffer *buffer, uint64_t key);

/* Pages of a volume in the buffer. */
uint64_t write_buffer_pages(const struct write_buffer *buffer, uint32_t volume);

static inline uint8_t *write_buffer_page(const struct write_buffer *buffer, uint32_t slot) {
    return buffer->memory + (size_t)slot * 4096u;
}

/* Whether a volume may have so many more slots. The last eighth of them is kept for volumes with few
 * pages in the buffer: whoever fills it does not stop the others. */
static inline int write_buffer_has_room(const struct write_buffer *buffer, uint32_t volume,
                                        uint32_t more) {
    uint32_t kept = write_buffer_pages(buffer, volume) < buffer->count / 16u ? 0
                                                                            : buffer->count / 8u;
    return buffer->available >= more + kept;
}

/* Takes a whole page, as the one written last; a page that waits keeps its slot. Returns 0, or -1:
 * there is no room for the volume. */
int write_buffer_put(struct write_buffer *buffer, uint64_t key, const uint8_t *page, uint64_t tick);

/* Writes into a page that waits, which becomes the one written last; whether it does. */
int write_buffer_write(struct write_buffer *buffer, uint64_t key, size_t start, const uint8_t *data,
                       size_t length, uint64_t tick);

/* Drops a page; one that is routing keeps its slot until the batch ends, and is not mapped then.
 * Returns how many slots became free. */
unsigned write_buffer_forget(struct write_buffer *buffer, uint64_t key);

/* Keys of at most so many pages, longest waiting first, up to the first written after `latest`. */
size_t write_buffer_oldest(const struct write_buffer *buffer, size_t most, uint64_t latest,
                           uint64_t *keys);

/* A page that waits is being routed from here on; its slot. It must wait, and not be routing. */
uint32_t write_buffer_begin(struct write_buffer *buffer, uint64_t key);

/* Ends the routing of a page in its slot; whether it was still wanted. The slot is free. */
int write_buffer_finish(struct write_buffer *buffer, uint64_t key, uint32_t slot);

/* Ends the routing of a page that could not be stored: it waits again, as the oldest, unless it was
 * dropped or written again. */
void write_buffer_put_back(struct write_buffer *buffer, uint64_t key, uint32_t slot);

/* Slots that have memory. */
static inline uint32_t write_buffer_resident(const struct write_buffer *buffer) {
    return buffer->untouched - buffer->emptied;
}

/* Gives the system the memory of those of the slots [first, first + count) that have been free since the
 * last time this was called; the others that are free will be the next time. Returns how many pages. None
 * where the memory is locked, or no shared mapping of whole pages. */
uint32_t write_buffer_give_back(struct write_buffer *buffer, uint32_t first, uint32_t count);

#endif
