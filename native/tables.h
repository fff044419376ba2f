/* Hint tables: digest -> object and feature -> object, in memory that may be a mapped file.
 *
 * Both only propose. A stale, torn or missing entry costs a chance to share or patch, never a
 * byte of data: what they propose is read back and compared before it is used. That is why they
 * need no transaction and may be written in place. */
#ifndef DIFFFS_TABLES_H
#define DIFFFS_TABLES_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_BUCKET_ENTRIES 8u

/* A bucket is one cache line of (digest, object id); id 0 marks an empty entry. */
struct digest_entry {
    uint32_t digest;
    uint32_t id;
};

struct digest_table {
    struct digest_entry *entries;
    uint32_t buckets;
};

/* The id of an object with this digest, or 0. */
uint32_t digest_table_find(const struct digest_table *table, uint32_t digest);

/* 1: a free entry was taken; 0: the object replaced another of this digest; -1: no room (grow the
 * table). */
int digest_table_insert(struct digest_table *table, uint32_t digest, uint32_t id);

/* 1 when the pair was there and is gone now, else 0. */
int digest_table_remove(struct digest_table *table, uint32_t digest, uint32_t id);

/* A direct-mapped array; the newest object with a feature wins its slot. A slot holds the object's
 * id (25 bits) and the low 7 bits of the feature, so that one slot in 128 proposes a stranger.
 * Objects with larger ids (beyond 128 GiB of distinct pages) are not entered.
 * Slots are ordered by feature: a table of twice the slots can be filled without knowing more. */
#define SKETCH_ID_BITS 25u
#define SKETCH_TAG_MASK 127u

struct sketch_table {
    uint32_t *slots;
    uint32_t count;
};

/* The newest object known to have the feature, or 0. */
static inline uint32_t sketch_table_find(const struct sketch_table *table, uint32_t feature) {
    uint32_t slot = table->slots[((uint64_t)feature * table->count) >> 32];
    return (slot >> SKETCH_ID_BITS) == (feature & SKETCH_TAG_MASK)
               ? slot & ((1u << SKETCH_ID_BITS) - 1u)
               : 0;
}

static inline void sketch_table_put(struct sketch_table *table, uint32_t feature, uint32_t id) {
    if (id < (1u << SKETCH_ID_BITS)) {
        table->slots[((uint64_t)feature * table->count) >> 32] =
            id | ((feature & SKETCH_TAG_MASK) << SKETCH_ID_BITS);
    }
}

/* Fills a table of twice the slots. */
void sketch_table_double(const struct sketch_table *from, struct sketch_table *to);

#endif
