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

/* Brings a digest's first bucket into the cache, ahead of its use. */
static inline void digest_table_prefetch(const struct digest_table *table, uint32_t digest) {
    size_t bucket = (size_t)(((uint64_t)digest * table->buckets) >> 32);
    __builtin_prefetch(table->entries + bucket * DIGEST_BUCKET_ENTRIES, 1);
}

/* The id of an object with this digest, or 0. */
uint32_t digest_table_find(const struct digest_table *table, uint32_t digest);

/* 1: a free entry was taken; 0: the object replaced another of this digest; -1: no room (grow the
 * table). */
int digest_table_insert(struct digest_table *table, uint32_t digest, uint32_t id);

/* 1 when the pair was there and is gone now, else 0. */
int digest_table_remove(struct digest_table *table, uint32_t digest, uint32_t id);

/* A set-associative table of 2 ** bucket_bits buckets of `ways` slots, newest first; a new entry
 * pushes the oldest out. The feature's top bucket_bits choose the bucket. A slot holds the object's
 * id in its low id_bits and, above it, the feature's next 32 - id_bits bits as the tag.
 *
 * The table grows by a way at a time, to fifteen; then twice as many buckets have eight ways. The
 * tag's top bit tells the half that an entry belongs to, and the bit that this frees goes to the
 * ids, which have become longer too. Nothing is forgotten but the oldest of a half that gets more
 * than eight of the fifteen. */
#define SKETCH_LEAST_WAYS 8u
#define SKETCH_MOST_WAYS 15u
#define SKETCH_FIRST_BUCKET_BITS 7u
#define SKETCH_FIRST_ID_BITS 10u
#define SKETCH_LAST_ID_BITS 25u /* 128 GiB of distinct pages; later ones become no bases */

struct sketch_table {
    uint32_t *slots;
    uint32_t bucket_bits;
    uint32_t ways;
    uint32_t id_bits;
};

static inline size_t sketch_table_slots(const struct sketch_table *table) {
    return (size_t)table->ways << table->bucket_bits;
}

static inline uint32_t *sketch_table_ways(const struct sketch_table *table, uint32_t feature) {
    return table->slots + (size_t)(feature >> (32u - table->bucket_bits)) * table->ways;
}

/* Brings a bucket into the cache, ahead of its use. */
static inline void sketch_table_prefetch(const struct sketch_table *table, uint32_t feature) {
    const uint32_t *ways = sketch_table_ways(table, feature);
    __builtin_prefetch(ways, 1);
    __builtin_prefetch(ways + table->ways - 1u, 1);
}

/* The newest object known to have the feature, or 0. */
uint32_t sketch_table_find(const struct sketch_table *table, uint32_t feature);

/* Enters an object; ids of more than id_bits widen the ids at the price of the tags. */
void sketch_table_put(struct sketch_table *table, uint32_t feature, uint32_t id);

/* The number of slots at the next size. */
size_t sketch_table_next_slots(const struct sketch_table *table);

/* Fills `to`, which has zeros for its slots and the next size. */
void sketch_table_grow(const struct sketch_table *from, struct sketch_table *to);

#endif
