#include "tables.h"

static inline struct digest_entry *bucket_of(const struct digest_table *table, uint32_t hash) {
    size_t bucket = (size_t)(((uint64_t)hash * table->buckets) >> 32);
    return table->entries + bucket * DIGEST_BUCKET_ENTRIES;
}

/* The second choice of an entry; with two choices of eight entries each, a bucket overflows
 * rarely below nine tenths of the table in use. */
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

int digest_table_insert(struct digest_table *table, uint32_t digest, uint32_t id) {
    if (find_pair(table, digest, id) != NULL) {
        return 0;
    }
    struct digest_entry *choices[2] = {bucket_of(table, digest),
                                       bucket_of(table, second_hash(digest))};
    struct digest_entry *free_entry[2] = {NULL, NULL};
    unsigned used[2] = {0, 0};
    for (int choice = 0; choice < 2; choice++) {
        for (unsigned i = 0; i < DIGEST_BUCKET_ENTRIES; i++) {
            if (choices[choice][i].id == 0) {
                free_entry[choice] = choices[choice] + i;
            } else {
                used[choice]++;
            }
        }
    }
    /* The emptier of the two keeps both from filling up. */
    struct digest_entry *entry = used[1] < used[0] ? free_entry[1] : free_entry[0];
    if (entry == NULL) {
        entry = free_entry[1];
    }
    if (entry == NULL) {
        /* Equal digests share their buckets however large the table is, so growing does not help
         * them: the newest object, whose references are not used up, replaces one. */
        for (unsigned i = 0; i < 2u * DIGEST_BUCKET_ENTRIES; i++) {
            entry = choices[i / DIGEST_BUCKET_ENTRIES] + i % DIGEST_BUCKET_ENTRIES;
            if (entry->digest == digest) {
                entry->id = id;
                return 0;
            }
        }
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

void sketch_table_double(const struct sketch_table *from, struct sketch_table *to) {
    /* Which half a feature belongs to is unknown: both get it, and new entries sort it out. */
    for (size_t slot = 0; slot < to->count; slot++) {
        to->slots[slot] = from->slots[slot / 2];
    }
}
