#include "key_map.h"

#include <stdlib.h>

#define FIRST_CAPACITY 16u

/* splitmix64's finisher: keys are page numbers, one behind the other. */
static size_t place_of(const struct key_map *map, uint64_t key) {
    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9u;
    key = (key ^ (key >> 27)) * 0x94d049bb133111ebu;
    return (size_t)(key ^ (key >> 31)) & (map->capacity - 1u);
}

void key_map_free(struct key_map *map) {
    free(map->entries);
    map->entries = NULL;
    map->capacity = map->count = 0;
}

/* The entry with the key, or the free one where it belongs. */
static struct key_map_entry *entry_of(const struct key_map *map, uint64_t key) {
    size_t place = place_of(map, key);
    while (map->entries[place].value != NULL && map->entries[place].key != key) {
        place = (place + 1u) & (map->capacity - 1u);
    }
    return &map->entries[place];
}

void *key_map_get(const struct key_map *map, uint64_t key) {
    return map->count == 0 ? NULL : entry_of(map, key)->value;
}

static int grow(struct key_map *map, size_t capacity) {
    struct key_map larger = {NULL, capacity, map->count};
    larger.entries = calloc(larger.capacity, sizeof *larger.entries);
    if (larger.entries == NULL) {
        return -1;
    }
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->entries[i].value != NULL) {
            *entry_of(&larger, map->entries[i].key) = map->entries[i];
        }
    }
    free(map->entries);
    *map = larger;
    return 0;
}

int key_map_reserve(struct key_map *map, size_t count) {
    size_t capacity = map->capacity == 0 ? FIRST_CAPACITY : map->capacity;
    while (count * 3u > capacity * 2u) {
        capacity *= 2u;
    }
    return capacity == map->capacity ? 0 : grow(map, capacity);
}

int key_map_put(struct key_map *map, uint64_t key, void *value) {
    if (key_map_reserve(map, map->count + 1u)) {
        return -1;
    }
    struct key_map_entry *entry = entry_of(map, key);
    map->count += entry->value == NULL;
    entry->key = key;
    entry->value = value;
    return 0;
}

void *key_map_remove(struct key_map *map, uint64_t key) {
    if (map->count == 0) {
        return NULL;
    }
    struct key_map_entry *entry = entry_of(map, key);
    void *value = entry->value;
    if (value == NULL) {
        return NULL;
    }
    /* What was put behind it because its own place was taken moves up. */
    size_t mask = map->capacity - 1u;
    size_t hole = (size_t)(entry - map->entries);
    for (size_t at = (hole + 1u) & mask; map->entries[at].value != NULL; at = (at + 1u) & mask) {
        size_t home = place_of(map, map->entries[at].key);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            map->entries[hole] = map->entries[at];
            hole = at;
        }
    }
    map->entries[hole].value = NULL;
    map->count--;
    return value;
}

void *key_map_next(const struct key_map *map, size_t *at, uint64_t *key) {
    for (; *at < map->capacity; ++*at) {
        if (map->entries[*at].value != NULL) {
            *key = map->entries[*at].key;
            return map->entries[(*at)++].value;
        }
    }
    return NULL;
}
