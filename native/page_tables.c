#include "page_tables.h"

#include <stdlib.h>
#include <string.h>

#include "extents.h"

void page_tables_free(struct page_tables *tables) {
    size_t at = 0;
    uint64_t key;
    struct table_chunk *chunk;
    while ((chunk = key_map_next(&tables->chunks, &at, &key)) != NULL) {
        free(chunk);
    }
    key_map_free(&tables->chunks);
    key_map_free(&tables->mapped);
    free(tables->released.ids);
    memset(tables, 0, sizeof *tables);
}

struct table_chunk *page_tables_find(const struct page_tables *tables, uint32_t volume,
                                     uint32_t chunk) {
    return key_map_get(&tables->chunks, chunk_key(volume, chunk));
}

struct table_chunk *page_tables_bring(struct page_tables *tables, uint32_t volume, uint32_t chunk,
                                      const uint32_t *words) {
    struct table_chunk *there = page_tables_find(tables, volume, chunk);
    if (there != NULL) {
        return there;
    }
    struct table_chunk *brought = calloc(1, sizeof *brought);
    if (brought == NULL) {
        return NULL;
    }
    brought->key = chunk_key(volume, chunk);
    brought->touched = 1;
    if (words != NULL) {
        memcpy(brought->words, words, TABLE_BYTES);
    }
    if (key_map_put(&tables->chunks, brought->key, brought)) {
        free(brought);
        return NULL;
    }
    return brought;
}

void page_tables_forget(struct page_tables *tables, struct table_chunk *chunk) {
    page_tables_set_changes(tables, chunk, 0);
    key_map_remove(&tables->chunks, chunk->key);
    free(chunk);
}

/* The map holds numbers in its pointers, one more than they are: NULL is none. */
uint64_t page_tables_mapped(const struct page_tables *tables, uint32_t volume) {
    uintptr_t stored = (uintptr_t)key_map_get(&tables->mapped, volume);
    return stored == 0 ? 0 : stored - 1u;
}

int page_tables_count(struct page_tables *tables, uint32_t volume, int64_t objects, int64_t zeros,
                      int64_t lost) {
    uint64_t mapped = page_tables_mapped(tables, volume) + (uint64_t)(objects + zeros);
    if (key_map_put(&tables->mapped, volume, (void *)(uintptr_t)(mapped + 1u))) {
        return -1;
    }
    tables->objects += (uint64_t)objects;
    tables->zeros += (uint64_t)zeros;
    tables->lost += (uint64_t)lost;
    return 0;
}

void page_tables_set_changes(struct page_tables *tables, struct table_chunk *chunk,
                             uint8_t changes) {
    tables->changed -= chunk->changes != 0;
    tables->changed += changes != 0;
    chunk->changes = changes;
}

int page_tables_expect(struct page_tables *tables, size_t count) {
    struct id_list *list = &tables->released;
    if (list->capacity - list->count >= count) {
        return 0;
    }
    size_t capacity = list->capacity + list->capacity / 2u;
    capacity = capacity < list->count + count ? list->count + count : capacity;
    uint32_t *ids = realloc(list->ids, capacity * sizeof *ids);
    if (ids == NULL) {
        return -1;
    }
    list->ids = ids;
    list->capacity = capacity;
    return 0;
}

int page_tables_release(struct page_tables *tables, uint32_t id) {
    if (page_tables_expect(tables, 1)) {
        return -1;
    }
    tables->released.ids[tables->released.count++] = id;
    return 0;
}

/* As an object: a lost page counts as one, so that its volume is not taken for smaller. */
static int64_t is_counted(uint32_t id) { return id != ID_HOLE && id != ID_ZERO; }

void page_tables_set(struct page_tables *tables, struct table_chunk *chunk, uint32_t entry,
                     uint32_t id) {
    uint32_t *place = chunk_ids(chunk) + entry;
    uint32_t former = *place;
    int64_t objects = is_counted(id) - is_counted(former);
    int64_t zeros = (int64_t)(id == ID_ZERO) - (int64_t)(former == ID_ZERO);
    int64_t lost = (int64_t)(id == ID_LOST) - (int64_t)(former == ID_LOST);
    if (id_is_object(former)) {
        tables->released.ids[tables->released.count++] = former;
    }
    *place = id;
    chunk->words[1] += (uint32_t)objects;
    chunk->words[2] += (uint32_t)zeros;
    chunk->words[3] += (uint32_t)lost;
    if (objects != 0 || zeros != 0 || lost != 0) {
        page_tables_count(tables, (uint32_t)(chunk->key >> 32), objects, zeros, lost);
    }
    page_tables_set_changes(tables, chunk, chunk->changes | CHUNK_DIRTY);
}
