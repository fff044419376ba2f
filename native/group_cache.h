/* Decoded pages of the groups that were read last: neighbours of a page that was asked for are often
 * asked for next, and were decoded on the way.
 *
 * Bounded: GROUP_CACHE_BYTES, taken as groups are read, given back when none is. Any number of threads. */
#ifndef DIFFFS_GROUP_CACHE_H
#define DIFFFS_GROUP_CACHE_H

#include <pthread.h>
#include <stdint.h>

#include "group_codec.h"

#define GROUP_CELL_PAGES 16u /* a group takes one cell of the cache, or four next to each other */
#define GROUP_CELLS 256u
#define GROUP_CACHE_BYTES (GROUP_CELLS * GROUP_CELL_PAGES * PAGE_BYTES)

/* Tells a group's content for good: within an epoch, the bytes at a place of an extent never change. */
struct group_key {
    uint32_t id;
    uint32_t epoch;
    uint32_t place;
};

struct group_cell {
    struct group_key key; /* id 0: free */
    uint32_t pages;       /* decoded: the first so many of the group */
    uint64_t used;        /* when, by the cache's clock */
};

struct group_cache {
    pthread_mutex_t lock;
    uint64_t clock;
    uint64_t clock_before; /* when memory was to be given back last */
    uint8_t *bytes; /* NULL until needed */
    struct group_cell cells[GROUP_CELLS];
};

int group_cache_init(struct group_cache *cache);
void group_cache_free(struct group_cache *cache);

enum group_cache_answer {
    GROUP_CACHE_MISS = 0,
    GROUP_CACHE_HIT = 1,
    GROUP_CACHE_SHORT = 2, /* the group is there, but not as far as that page */
};

/* Copies a page of a group. */
enum group_cache_answer group_cache_get(struct group_cache *cache, struct group_key key,
                                        unsigned page, uint8_t *out);

/* Remembers the first `count` pages of a group. */
void group_cache_put(struct group_cache *cache, struct group_key key, const uint8_t *pages,
                     unsigned count);

/* Forgets all groups, and gives their memory back, unless one was asked for since this was called last.
 * Returns the bytes. */
size_t group_cache_give_back(struct group_cache *cache);

#endif
