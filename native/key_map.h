/* A map from 64-bit keys to pointers: open addressing, linear probing, at most two thirds full.
 * Knows nothing of locks: its owner says who may call what. */
#ifndef DIFFFS_KEY_MAP_H
#define DIFFFS_KEY_MAP_H

#include <stddef.h>
#include <stdint.h>

struct key_map_entry {
    uint64_t key;
    void *value; /* NULL: free */
};

struct key_map {
    struct key_map_entry *entries; /* NULL as long as nothing was put */
    size_t capacity;               /* a power of two */
    size_t count;
};

void key_map_free(struct key_map *map);

/* The value, or NULL. O(1). */
void *key_map_get(const struct key_map *map, uint64_t key);

/* Puts a value, not NULL, in place of a former one. Returns 0, or -1 without memory. O(1). */
int key_map_put(struct key_map *map, uint64_t key, void *value);

/* Makes room for so many values: putting up to that many cannot fail. Returns 0, or -1. */
int key_map_reserve(struct key_map *map, size_t count);

/* Takes a value out; NULL when there is none. O(1). */
void *key_map_remove(struct key_map *map, uint64_t key);

/* The next value from position *at on, in no particular order, and its key; NULL at the end. Nothing
 * may be put or removed between calls. Begin with *at = 0. */
void *key_map_next(const struct key_map *map, size_t *at, uint64_t *key);

#endif
