/* Hint tables: digest -> object and feature -> object, in memory that may be a mapped file.
 *
 * Both only propose. A stale, torn or missing entry costs a chance to share or patch, never a
 * byte of data: what they propose is read back and compared before it is used. That is why they
 * need no transaction and may be written in place. */
#ifndef DIFFFS_TABLES_H
#define DIFFFS_TABLES_H

#include <stddef.h>
#include <stdint.h>

/* A table of 2 ** bucket_bits buckets of `ways` slots of 32 bits. A slot holds an object's id in its
 * low id_bits (0: empty) and a tag above. The key's top bucket_bits choose the bucket, and the tag
 * is what comes next in the key: the table knows that many of its bits and no more.
 *
 * It grows by a way at a time, to fifteen; then twice as many buckets have eight ways. The tag's
 * top bit tells the half that an entry belongs to, and the bit that this frees goes to the ids,
 * which have become longer too. */
#define HINT_LEAST_WAYS 8u
#define HINT_MOST_WAYS 15u
#define HINT_FIRST_BUCKET_BITS 7u
#define HINT_FIRST_ID_BITS 10u

struct hint_table {
    uint32_t *slots;
    uint32_t bucket_bits;
    uint32_t ways;
    uint32_t id_bits;
};

static inline size_t hint_table_slots(const struct hint_table *table) {
    return (size_t)table->ways << table->bucket_bits;
}

/* The number of slots at the next size. */
static inline size_t hint_table_next_slots(const struct hint_table *table) {
    return table->ways < HINT_MOST_WAYS ? (size_t)(table->ways + 1u) << table->bucket_bits
                                        : (size_t)HINT_LEAST_WAYS << (table->bucket_bits + 1u);
}

/* The bucket that a key's top bits choose. */
static inline uint32_t *hint_table_ways(const struct hint_table *table, uint32_t key) {
    return table->slots + (size_t)(key >> (32u - table->bucket_bits)) * table->ways;
}

/* Brings a feature's bucket into the cache, ahead of its use. */
static inline void sketch_table_prefetch(const struct hint_table *table, uint32_t key) {
    const uint32_t *ways = hint_table_ways(table, key);
    __builtin_prefetch(ways, 1);
    __builtin_prefetch(ways + table->ways - 1u, 1);
}

/* What is XORed to the digests and features of a domain before a table is asked or changed: the same
 * page has another key in each domain. 0 for domain 0. (The finalizer of MurmurHash3: one to one.) */
static inline uint32_t domain_key_mask(uint32_t domain) {
    domain ^= domain >> 16;
    domain *= UINT32_C(0x85ebca6b);
    domain ^= domain >> 13;
    domain *= UINT32_C(0xc2b2ae35);
    return domain ^ domain >> 16;
}

/* Digests: every object has one of two buckets, and nothing is pushed out. The tag's top bit is 1 in
 * the second bucket, whose number differs from the first's in bits that the tag's next four choose;
 * both can so be told from where an entry lies (partial-key cuckoo hashing: Fan and others, 2014).
 * The longest ids leave just these four. */
#define DIGEST_LAST_ID_BITS 27u /* 512 GiB of distinct pages; later ones are not shared */
#define DIGEST_CANDIDATES 4u

/* Brings a digest's buckets into the cache, ahead of their use. */
void digest_table_prefetch(const struct hint_table *table, uint32_t digest);

/* Objects that may have this digest, as far as the table knows it; at most DIGEST_CANDIDATES. */
unsigned digest_table_find(const struct hint_table *table, uint32_t digest, uint32_t *ids);

/* 1: a free slot was taken; 0: none was needed (the pair was there, the object replaced one of
 * DIGEST_CANDIDATES that look alike, or its id is too long); -1: no room (grow the table). */
int digest_table_insert(struct hint_table *table, uint32_t digest, uint32_t id);

/* Puts `id` in the place of another object of this digest. 1 when that was there, else 0. */
int digest_table_replace(struct hint_table *table, uint32_t digest, uint32_t former, uint32_t id);

/* 1 when the pair was there and is gone now, else 0. */
int digest_table_remove(struct hint_table *table, uint32_t digest, uint32_t id);

/* The digest of the entry in a slot that is not empty; bits that are not known are 0. */
uint32_t digest_table_digest(const struct hint_table *table, size_t slot);

/* How many of a digest's top bits the table knows. */
static inline uint32_t digest_table_known_bits(const struct hint_table *table) {
    return table->bucket_bits + 31u - table->id_bits;
}

/* Whether there is a next size. */
static inline int digest_table_can_grow(const struct hint_table *table) {
    return table->ways < HINT_MOST_WAYS || table->id_bits < DIGEST_LAST_ID_BITS;
}

/* Fills `to`, which has zeros for its slots and the next size. Returns how many entries found no
 * room in it. */
size_t digest_table_grow(const struct hint_table *from, struct hint_table *to);

/* Features: a bucket's entries are newest first; a new one pushes the oldest out. Growing forgets
 * nothing but the oldest of a half that gets more than eight of the fifteen. */
#define SKETCH_LAST_ID_BITS 25u /* 128 GiB of distinct pages; later ones become no bases */

/* The newest object known to have the feature, or 0. */
uint32_t sketch_table_find(const struct hint_table *table, uint32_t feature);

/* Enters an object; ids of more than id_bits widen the ids at the price of the tags. */
void sketch_table_put(struct hint_table *table, uint32_t feature, uint32_t id);

/* Fills `to`, which has zeros for its slots and the next size. */
void sketch_table_grow(const struct hint_table *from, struct hint_table *to);

#endif
