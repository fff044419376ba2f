#include "group_cache.h"

#include <stdlib.h>
#include <string.h>

#define CELL_BYTES (GROUP_CELL_PAGES * PAGE_BYTES)
#define LARGE_CELLS (GROUP_PAGES_MOST / GROUP_CELL_PAGES)

int group_cache_init(struct group_cache *cache) {
    memset(cache, 0, sizeof *cache);
    return pthread_mutex_init(&cache->lock, NULL) == 0 ? 0 : -1;
}

void group_cache_free(struct group_cache *cache) {
    free(cache->bytes);
    cache->bytes = NULL;
    pthread_mutex_destroy(&cache->lock);
}

/* The first cell of a group, or NULL; with the lock held. */
static struct group_cell *find(struct group_cache *cache, struct group_key key) {
    for (unsigned i = 0; i < GROUP_CELLS; i++) {
        if (cache->cells[i].key.id == key.id && cache->cells[i].key.epoch == key.epoch &&
            cache->cells[i].key.place == key.place) {
            return &cache->cells[i];
        }
    }
    return NULL;
}

enum group_cache_answer group_cache_get(struct group_cache *cache, struct group_key key,
                                        unsigned page, uint8_t *out) {
    enum group_cache_answer answer = GROUP_CACHE_MISS;
    pthread_mutex_lock(&cache->lock);
    cache->clock++;
    struct group_cell *cell = find(cache, key);
    if (cell != NULL) {
        answer = page < cell->pages ? GROUP_CACHE_HIT : GROUP_CACHE_SHORT;
        if (answer == GROUP_CACHE_HIT) {
            size_t first = (size_t)(cell - cache->cells);
            memcpy(out, cache->bytes + first * CELL_BYTES + (size_t)page * PAGE_BYTES, PAGE_BYTES);
            cell->used = cache->clock;
        }
    }
    pthread_mutex_unlock(&cache->lock);
    return answer;
}

/* Where the least lately used `width` cells begin, at a multiple of it. A group that begins in an
 * earlier cell reaches into none of them but where both are large. */
static unsigned oldest(const struct group_cache *cache, unsigned width) {
    unsigned best = 0;
    uint64_t best_used = UINT64_MAX;
    for (unsigned first = 0; first < GROUP_CELLS; first += width) {
        /* Of a large group only the first cell has a key and a time. */
        unsigned owner = first - first % LARGE_CELLS;
        uint64_t used = 0;
        if (cache->cells[owner].pages > GROUP_CELL_PAGES) {
            used = cache->cells[owner].used;
        } else {
            for (unsigned i = first; i < first + width; i++) {
                used = cache->cells[i].used > used ? cache->cells[i].used : used;
            }
        }
        if (used < best_used) {
            best_used = used;
            best = first;
        }
    }
    return best;
}

static void clear(struct group_cache *cache, unsigned first, unsigned width) {
    unsigned owner = first - first % LARGE_CELLS;
    if (cache->cells[owner].pages > GROUP_CELL_PAGES) {
        memset(&cache->cells[owner], 0, sizeof cache->cells[owner]);
    }
    memset(&cache->cells[first], 0, width * sizeof cache->cells[first]);
}

void group_cache_put(struct group_cache *cache, struct group_key key, const uint8_t *pages,
                     unsigned count) {
    pthread_mutex_lock(&cache->lock);
    if (cache->bytes == NULL) {
        cache->bytes = malloc(GROUP_CACHE_BYTES);
    }
    struct group_cell *known = find(cache, key);
    if (cache->bytes != NULL && (known == NULL || known->pages < count)) {
        if (known != NULL) {
            clear(cache, (unsigned)(known - cache->cells), 1);
        }
        unsigned width = count > GROUP_CELL_PAGES ? LARGE_CELLS : 1;
        unsigned first = oldest(cache, width);
        clear(cache, first, width);
        memcpy(cache->bytes + (size_t)first * CELL_BYTES, pages, (size_t)count * PAGE_BYTES);
        cache->cells[first] = (struct group_cell){key, count, ++cache->clock};
    }
    pthread_mutex_unlock(&cache->lock);
}

size_t group_cache_give_back(struct group_cache *cache) {
    size_t given = 0;
    pthread_mutex_lock(&cache->lock);
    if (cache->bytes != NULL && cache->clock == cache->clock_before) {
        free(cache->bytes);
        cache->bytes = NULL;
        memset(cache->cells, 0, sizeof cache->cells);
        given = GROUP_CACHE_BYTES;
    }
    cache->clock_before = cache->clock;
    pthread_mutex_unlock(&cache->lock);
    return given;
}
