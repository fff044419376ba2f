/* The pages of volumes: the write buffer over the page tables over the objects, as one.
 *
 * Lock rule: the *page lock* guards the write buffer, the page tables in memory, and the tables of open
 * handles and volumes. It is held for moments only: to look up and copy, or to change, some pages;
 * never while a payload is read or decoded, and nothing that may wait happens with it. Order: the
 * store's lock (Python's), Python's own, the page lock, extents' lock. */
#ifndef DIFFFS_VOLUME_PAGES_H
#define DIFFFS_VOLUME_PAGES_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "data_path.h"
#include "extents.h"
#include "key_map.h"
#include "page_tables.h"
#include "write_buffer.h"

/* A mark that a thread waits for; setting it needs no lock of anybody else. */
struct signal_mark {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    int is_set;
};

int signal_mark_init(struct signal_mark *mark);
void signal_mark_free(struct signal_mark *mark);
void signal_mark_set(struct signal_mark *mark);
/* Returns when the mark is set, or after so many seconds; takes the mark away. */
void signal_mark_wait(struct signal_mark *mark, double seconds);

/* A volume that somebody has open. */
struct open_volume {
    uint64_t size;
    int64_t written_nanoseconds; /* of the last write that only this knows of; 0: none */
    uint32_t number;
    uint32_t handles;
};

/* 0 in `volume`: for something else than a volume, all of whose requests take the long way. */
struct open_handle {
    struct open_volume *volume;
    int is_writer;
};

struct volume_pages {
    pthread_rwlock_t *lock; /* the page lock, whoever owns it */
    struct page_tables *tables;
    struct write_buffer *buffer;
    struct extents *extents;
    struct key_map handles; /* of struct open_handle */
    struct key_map volumes; /* of struct open_volume, by number */
    struct signal_mark *work; /* set when the buffer is crowded, or no longer empty */
    const codec_dictionary *dictionary; /* what objects may need to be decoded; atomic */
    const codec_dictionary *group_dictionary; /* what groups may need; atomic */
    uint64_t fixed_tick;                /* 0: the clock of writes runs; atomic */
    int is_refusing;                    /* writes and punches take the long way; atomic */
    int are_tables_held;                /* punches take the long way: a commit copies tables */
    uint64_t decoded[CODEC_ROOM];       /* objects by codec; atomic */
    uint64_t decode_nanoseconds[CODEC_ROOM];
    struct data_path data_path;
};

/* Tenths of a second on a clock that only runs forward: when pages were written. */
uint64_t volume_pages_tick(const struct volume_pages *pages);

/* Buffer pages at which the routing thread is woken. */
static inline int buffer_is_crowded(const struct write_buffer *buffer) {
    return buffer->available <= buffer->count / 2u;
}

void volume_pages_init(struct volume_pages *pages, pthread_rwlock_t *lock,
                       struct page_tables *tables, struct write_buffer *buffer,
                       struct extents *extents, struct signal_mark *work);
void volume_pages_free(struct volume_pages *pages);

/* All of the following take the lock. */

/* Opens a handle for a volume. Returns 0, or -1 without memory. */
int volume_pages_open(struct volume_pages *pages, uint64_t handle, uint32_t number, uint64_t size,
                      int is_writer);
void volume_pages_close(struct volume_pages *pages, uint64_t handle);

/* Tells the size of a volume, where somebody has it open. */
void volume_pages_set_size(struct volume_pages *pages, uint32_t number, uint64_t size);

/* A volume that was written since it was last asked for, and when (nanoseconds since 1970); 0: none.
 * Of all volumes (number 0), or of one. */
uint32_t volume_pages_take_written(struct volume_pages *pages, uint32_t number,
                                   int64_t *nanoseconds);

/* Writes into a page that waits; whether it does. */
int volume_pages_write_waiting(struct volume_pages *pages, uint64_t key, size_t start,
                               const uint8_t *data, size_t length);

/* Where the bytes of a page that does not wait are. While the caller holds the store's lock, another
 * place is all that other bytes can mean: no batch begins or ends, and no object is freed. */
struct page_place {
    uint32_t routing; /* its slot, or NO_SLOT */
    uint32_t id;      /* of the page table, */
    int is_known;     /* if that is in memory: without it, nothing but the store changes the page */
};
void volume_pages_place(struct volume_pages *pages, uint64_t key, struct page_place *place);

/* Puts a whole page that was made from the bytes at a place, unless the page has other bytes by now:
 * it waits, or is somewhere else. Returns 0; 1 when it has; -1 when no slot is free. */
int volume_pages_put_from(struct volume_pages *pages, uint64_t key, const struct page_place *place,
                          const uint8_t *page);

/* Puts whole pages as far as there is room; how many. */
size_t volume_pages_put(struct volume_pages *pages, uint64_t key, const uint8_t *data,
                        size_t count);

/* Copies the page if it is in the buffer; whether it is. */
int volume_pages_copy_buffered(struct volume_pages *pages, uint64_t key, uint8_t *out);

/* The first of a volume's pages [first, end) that is in the buffer, or end. Costs as the next one. */
uint64_t volume_pages_next_buffered(struct volume_pages *pages, uint32_t volume, uint64_t first,
                                    uint64_t end);

/* Drops the pages of a volume [first, end) from the buffer; how many slots became free. O(the fewer of
 * the range's pages and the buffer's). */
size_t volume_pages_forget(struct volume_pages *pages, uint32_t volume, uint64_t first,
                           uint64_t end);

/* Maps routed pages, ascending and of one volume, to their objects, and ends their routing. Those that
 * were dropped meanwhile stay as they are, and their objects are released. All their chunks must be in
 * memory. Returns how many were mapped, or -1 without memory: then nothing has changed. */
long volume_pages_adopt(struct volume_pages *pages, const uint64_t *keys, const uint32_t *slots,
                        const uint32_t *ids, size_t count);

#endif
