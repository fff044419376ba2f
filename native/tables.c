#include "tables.h"

#include <string.h>

static inline struct digest_entry *bucket_of(const struct digest_table *table, uint32_t hash) {
    size_t bucket = (size_t)(((uint64_t)hash * table->buckets) >> 32);
    return table->entries + bucket * DIGEST_BUCKET_ENTRIES;
}

/* The second choice of an entry: a bucketed cuckoo table (Dietzfelbinger and Weidling, 2007). With
 * two buckets of eight and one displacement, inserting fails first at some 93 % of a large table. */
static inline uint32_t second_hash(uint32_t digest) {
    digest ^= digest >> 16;
    digest *= UINT32_C(0x85ebca6b);
    digest ^= digest >> 13;
    digest *= UINT32_C(0xc2b2ae35);
    return digest ^ (digest >> 16);
}

static struct digest_entry *find_pair(const struct digest_table *table, uint32_t digest,
                                      uint32_t id) {
    struct digest_entry *choices[2] = {bucket_of(table, digest),
                                       bucket_of(table, second_hash(digest))};
    for (int choice = 0; choice < 2; choice++) {
        for (unsigned i = 0; i < DIGEST_BUCKET_ENTRIES; i++) {
            struct digest_entry *entry = choices[choice] + i;
            if (entry->digest == digest && entry->id == id) {
                return entry;
            }
        }
    }
    return NULL;
}

uint32_t digest_table_find(const struct digest_table *table, uint32_t digest) {
    const struct digest_entry *choices[2] = {bucket_of(table, digest),
                                             bucket_of(table, second_hash(digest))};
    for (int choice = 0; choice < 2; choice++) {
        for (unsigned i = 0; i < DIGEST_BUCKET_ENTRIES; i++) {
            const struct digest_entry *entry = choices[choice] + i;
            if (entry->digest == digest && entry->id != 0) {
                return entry->id;
            }
        }
    }
    return 0;
}

static struct digest_entry *free_entry_of(struct digest_entry *bucket, unsigned *used) {
    struct digest_entry *found = NULL;
    *used = 0;
    for (unsigned i = 0; i < DIGEST_BUCKET_ENTRIES; i++) {
        if (bucket[i].id == 0) {
            found = bucket + i;
        } else {
            ++*used;
        }
    }
    return found;
}

/* Empties an entry of a full bucket by moving it to its other bucket, where that has room. */
static struct digest_entry *displace(const struct digest_table *table,
                                     struct digest_entry *bucket) {
    for (unsigned i = 0; i < DIGEST_BUCKET_ENTRIES; i++) {
        struct digest_entry *other = bucket_of(table, bucket[i].digest);
        unsigned used;
        if (other == bucket) {
            other = bucket_of(table, second_hash(bucket[i].digest));
        }
        struct digest_entry *room = free_entry_of(other, &used);
        if (room != NULL) {
            *room = bucket[i];
            return bucket + i;
        }
    }
    return NULL;
}

int digest_table_insert(struct digest_table *table, uint32_t digest, uint32_t id) {
    struct digest_entry *choices[2] = {bucket_of(table, digest),
                                       bucket_of(table, second_hash(digest))};
    /* One entry a digest: the newest object replaces an older one, whose references may be used
     * up (that is why a second object with these bytes was made). */
    for (unsigned i = 0; i < 2u * DIGEST_BUCKET_ENTRIES; i++) {
        struct digest_entry *entry =
            choices[i / DIGEST_BUCKET_ENTRIES] + i % DIGEST_BUCKET_ENTRIES;
        if (entry->digest == digest && entry->id != 0) {
            entry->id = id;
            return 0;
        }
    }
    unsigned used[2];
    struct digest_entry *entry = free_entry_of(choices[0], &used[0]);
    struct digest_entry *second = free_entry_of(choices[1], &used[1]);
    if (entry == NULL || (second != NULL && used[1] < used[0])) {
        entry = second; /* the emptier of the two keeps both from filling up */
    }
    if (entry == NULL) {
        entry = displace(table, choices[0]);
    }
    if (entry == NULL) {
        entry = displace(table, choices[1]);
    }
    if (entry == NULL) {
        return -1;
    }
    entry->digest = digest;
    entry->id = id;
    return 1;
}

int digest_table_remove(struct digest_table *table, uint32_t digest, uint32_t id) {
    struct digest_entry *entry = find_pair(table, digest, id);
    if (entry == NULL) {
        return 0;
    }
    entry->digest = 0;
    entry->id = 0;
    return 1;
}

/* Covers the tag; the rest is the id. */
static inline uint32_t tag_mask(const struct sketch_table *table) {
    return UINT32_MAX << table->id_bits;
}

static inline uint32_t tag_of(const struct sketch_table *table, uint32_t feature) {
    return (feature << table->bucket_bits) & tag_mask(table);
}

uint32_t sketch_table_find(const struct sketch_table *table, uint32_t feature) {
    const uint32_t *ways = sketch_table_ways(table, feature);
    uint32_t mask = tag_mask(table);
    uint32_t tag = tag_of(table, feature);
    for (unsigned way = 0; way < table->ways; way++) {
        if ((ways[way] & mask) == tag && (ways[way] & ~mask) != 0) {
            return ways[way] & ~mask;
        }
    }
    return 0;
}

/* One bit more for ids: the tags' lowest bit becomes the ids' highest, and 0 in all of them. */
static void widen(struct sketch_table *table) {
    size_t slots = sketch_table_slots(table);
    for (size_t slot = 0; slot < slots; slot++) {
        table->slots[slot] &= ~(UINT32_C(1) << table->id_bits);
    }
    table->id_bits++;
}

void sketch_table_put(struct sketch_table *table, uint32_t feature, uint32_t id) {
    while (id >> table->id_bits != 0) {
        if (table->id_bits >= SKETCH_LAST_ID_BITS) {
            return;
        }
        widen(table);
    }
    uint32_t *ways = sketch_table_ways(table, feature);
    uint32_t mask = tag_mask(table);
    uint32_t tag = tag_of(table, feature);
    /* An older object with the feature makes way, else an empty slot, else the oldest. */
    unsigned way = 0;
    while (way < table->ways - 1u && (ways[way] & ~mask) != 0 && (ways[way] & mask) != tag) {
        way++;
    }
    for (; way > 0; way--) {
        ways[way] = ways[way - 1u];
    }
    ways[0] = tag | id;
}

size_t sketch_table_next_slots(const struct sketch_table *table) {
    return table->ways < SKETCH_MOST_WAYS
               ? (size_t)(table->ways + 1u) << table->bucket_bits
               : (size_t)SKETCH_LEAST_WAYS << (table->bucket_bits + 1u);
}

static void add_a_way(const struct sketch_table *from, struct sketch_table *to) {
    for (size_t bucket = 0; bucket < (size_t)1 << from->bucket_bits; bucket++) {
        memcpy(to->slots + bucket * to->ways, from->slots + bucket * from->ways,
               from->ways * sizeof *to->slots);
    }
}

static void split_buckets(const struct sketch_table *from, struct sketch_table *to) {
    uint32_t mask = tag_mask(from);
    for (size_t bucket = 0; bucket < (size_t)1 << from->bucket_bits; bucket++) {
        unsigned filled[2] = {0, 0};
        for (unsigned way = 0; way < from->ways; way++) {
            uint32_t slot = from->slots[bucket * from->ways + way];
            unsigned half = slot >> 31;
            if ((slot & ~mask) == 0 || filled[half] == to->ways) {
                continue;
            }
            to->slots[(2u * bucket + half) * to->ways + filled[half]++] =
                ((slot & mask) << 1) | (slot & ~mask);
        }
    }
}

void sketch_table_grow(const struct sketch_table *from, struct sketch_table *to) {
    if (from->ways < SKETCH_MOST_WAYS) {
        to->bucket_bits = from->bucket_bits;
        to->ways = from->ways + 1u;
        to->id_bits = from->id_bits;
        add_a_way(from, to);
    } else {
        /* The tags move up by the bit that now chooses the bucket. Their new lowest bit would be
         * unknown, so it goes to the ids; at their limit it stays, and half the entries are
         * lost. */
        to->bucket_bits = from->bucket_bits + 1u;
        to->ways = SKETCH_LEAST_WAYS;
        to->id_bits = from->id_bits < SKETCH_LAST_ID_BITS ? from->id_bits + 1u : from->id_bits;
        split_buckets(from, to);
    }
}
