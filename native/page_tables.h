/* Page tables in memory: chunks of 1,016 object ids, which page of a volume is which object.
 *
 * Lock rule: the store's page lock (native/volume_pages.h) guards all of it: held for reading to
 * look, for writing to change. Nothing here takes it. */
#ifndef DIFFFS_PAGE_TABLES_H
#define DIFFFS_PAGE_TABLES_H

#include <stddef.h>
#include <stdint.h>

#include "key_map.h"

#define TABLE_ENTRIES 1016u
#define TABLE_PREFIX_WORDS 4u /* 0, objects and lost, zeros, lost */
#define TABLE_WORDS (TABLE_PREFIX_WORDS + TABLE_ENTRIES)
#define TABLE_BYTES (4u * TABLE_WORDS)

/* Index changes of a chunk: what no finished commit holds, and what one is about to. */
#define CHUNK_DIRTY 1u
#define CHUNK_COMMITTING 2u

struct table_chunk {
    uint64_t key;    /* volume << 32 | chunk */
    uint8_t changes; /* CHUNK_DIRTY, CHUNK_COMMITTING, both or neither */
    uint8_t touched; /* looked at since the last trim; a lost update only costs a reload */
    uint32_t words[TABLE_WORDS];
};

static inline uint64_t chunk_key(uint32_t volume, uint32_t chunk) {
    return (uint64_t)volume << 32 | chunk;
}
static inline uint32_t *chunk_ids(struct table_chunk *chunk) {
    return chunk->words + TABLE_PREFIX_WORDS;
}

/* Ids that pages no longer refer to: the routing thread takes the references back. */
struct id_list {
    uint32_t *ids;
    size_t count;
    size_t capacity;
};

struct page_tables {
    struct key_map chunks; /* of struct table_chunk, by its key */
    struct key_map mapped; /* by volume: pages that are no holes, as a number in the pointer */
    struct id_list released;
    uint64_t objects; /* pages that are objects, or lost, in all volumes */
    uint64_t zeros;   /* pages written as zeros */
    uint64_t lost;    /* pages whose content is lost */
    size_t changed;   /* chunks with changes */
};

void page_tables_free(struct page_tables *tables);

/* The chunk, or NULL when it is not in memory. */
struct table_chunk *page_tables_find(const struct page_tables *tables, uint32_t volume,
                                     uint32_t chunk);

/* Brings a chunk into memory: a copy of `words` (TABLE_WORDS), or one that maps nothing (NULL). A
 * chunk that is there stays as it is. NULL without memory. */
struct table_chunk *page_tables_bring(struct page_tables *tables, uint32_t volume, uint32_t chunk,
                                      const uint32_t *words);

/* Forgets a chunk; its pages count as mapped as before. */
void page_tables_forget(struct page_tables *tables, struct table_chunk *chunk);

/* Counts pages of a volume that became something else. Returns 0, or -1 without memory. */
int page_tables_count(struct page_tables *tables, uint32_t volume, int64_t objects, int64_t zeros,
                      int64_t lost);
uint64_t page_tables_mapped(const struct page_tables *tables, uint32_t volume);

/* Notes that a chunk is or is not changed. */
void page_tables_set_changes(struct page_tables *tables, struct table_chunk *chunk,
                             uint8_t changes);

/* Makes room for so many more released ids, so that changing entries cannot fail half-way. */
int page_tables_expect(struct page_tables *tables, size_t count);

/* Changes an entry, counts, and releases the object that was there; the chunk becomes dirty. There
 * must be room: page_tables_expect(), and page_tables_count() of nothing for the volume. */
void page_tables_set(struct page_tables *tables, struct table_chunk *chunk, uint32_t entry,
                     uint32_t id);

/* Adds an id to those released. Returns 0, or -1 without memory. */
int page_tables_release(struct page_tables *tables, uint32_t id);

#endif
