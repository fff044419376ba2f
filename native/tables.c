#include "tables.h"

#include <string.h>

/* Covers the tag; the rest is the id. */
static inline uint32_t tag_mask(const struct hint_table *table) {
    return UINT32_MAX << table->id_bits;
}

typedef uint32_t lanes __attribute__((vector_size(16)));

/* The ways of a bucket whose bits under `mask` are `wanted`, way 0 in the lowest bit. Four are
 * compared at a time, without branches: buckets come from memory, and what is in them cannot be
 * foreseen. */
static inline uint32_t matching_ways(const struct hint_table *table, const uint32_t *ways,
                                     uint32_t mask, uint32_t wanted) {
    const lanes weights = {1, 2, 4, 8};
    lanes found = {0, 0, 0, 0};
    for (uint32_t way = 0; way < table->ways; way += 4u) {
        uint32_t from = way + 4u <= table->ways ? way : table->ways - 4u; /* some twice */
        lanes slots;
        memcpy(&slots, ways + from, sizeof slots);
        found |= (lanes)((slots & mask) == wanted) & (weights << from);
    }
    return found[0] | found[1] | found[2] | found[3];
}

static inline uint32_t empty_ways(const struct hint_table *table, const uint32_t *ways) {
    return matching_ways(table, ways, ~tag_mask(table), 0);
}

/* The ways with this tag; an empty slot may have any. */
static inline uint32_t tagged_ways(const struct hint_table *table, const uint32_t *ways,
                                   uint32_t tag) {
    uint32_t tagged = matching_ways(table, ways, tag_mask(table), tag);
    return tagged == 0 ? 0 : tagged & ~empty_ways(table, ways);
}

static inline unsigned lowest_way(uint32_t ways) { return (unsigned)__builtin_ctz(ways); }

/* One bit more for ids: the tags' lowest bit becomes the ids' highest, and 0 in all of them. */
static void widen(struct hint_table *table) {
    size_t slots = hint_table_slots(table);
    for (size_t slot = 0; slot < slots; slot++) {
        table->slots[slot] &= ~(UINT32_C(1) << table->id_bits);
    }
    table->id_bits++;
}

/* Makes room for an id. Returns 0 when it is longer than ids may become. */
static int widen_for(struct hint_table *table, uint32_t id, uint32_t last_id_bits) {
    while (id >> table->id_bits != 0) {
        if (table->id_bits >= last_id_bits) {
            return 0;
        }
        widen(table);
    }
    return 1;
}

static void add_a_way(const struct hint_table *from, struct hint_table *to) {
    to->bucket_bits = from->bucket_bits;
    to->ways = from->ways + 1u;
    to->id_bits = from->id_bits;
    for (size_t bucket = 0; bucket < (size_t)1 << from->bucket_bits; bucket++) {
        memcpy(to->slots + bucket * to->ways, from->slots + bucket * from->ways,
               from->ways * sizeof *to->slots);
    }
}

#define IN_SECOND_BUCKET UINT32_C(0x80000000)

static inline uint32_t digest_tag(const struct hint_table *table, uint32_t digest) {
    return ((digest << table->bucket_bits) >> 1) & tag_mask(table);
}

/* The other bucket of an entry: twice applied it leads back. */
static inline uint32_t other_bucket(const struct hint_table *table, uint32_t bucket, uint32_t tag) {
    uint32_t choice = (tag >> 27) & 15u;
    uint32_t distance = (choice + 1u) * UINT32_C(0x9e3779b1) >> (32u - table->bucket_bits);
    return bucket ^ (distance | 1u);
}

/* Where a digest may lie, and what a slot of each bucket has above the id. */
struct digest_place {
    uint32_t *ways;
    uint32_t tag;
};

static void digest_places(const struct hint_table *table, uint32_t digest,
                          struct digest_place places[2]) {
    uint32_t tag = digest_tag(table, digest);
    uint32_t first = digest >> (32u - table->bucket_bits);
    uint32_t second = other_bucket(table, first, tag);
    places[0] = (struct digest_place){table->slots + (size_t)first * table->ways, tag};
    places[1] = (struct digest_place){table->slots + (size_t)second * table->ways,
                                      tag | IN_SECOND_BUCKET};
}

void digest_table_prefetch(const struct hint_table *table, uint32_t digest) {
    struct digest_place places[2];
    digest_places(table, digest, places);
    for (unsigned choice = 0; choice < 2; choice++) {
        __builtin_prefetch(places[choice].ways, 1);
        __builtin_prefetch(places[choice].ways + table->ways - 1u, 1);
    }
}

/* The slots that hold this digest, as far as it is known; at most DIGEST_CANDIDATES. */
static unsigned find_alike(const struct hint_table *table, uint32_t digest,
                           uint32_t *alike[DIGEST_CANDIDATES]) {
    unsigned count = 0;
    struct digest_place places[2];
    digest_places(table, digest, places);
    for (unsigned choice = 0; choice < 2; choice++) {
        uint32_t tagged = tagged_ways(table, places[choice].ways, places[choice].tag);
        for (; tagged != 0 && count < DIGEST_CANDIDATES; tagged &= tagged - 1u) {
            alike[count++] = places[choice].ways + lowest_way(tagged);
        }
    }
    return count;
}

unsigned digest_table_find(const struct hint_table *table, uint32_t digest, uint32_t *ids) {
    uint32_t *alike[DIGEST_CANDIDATES];
    unsigned count = find_alike(table, digest, alike);
    for (unsigned i = 0; i < count; i++) {
        ids[i] = *alike[i] & ~tag_mask(table);
    }
    return count;
}

static uint32_t *find_pair(const struct hint_table *table, uint32_t digest, uint32_t id) {
    struct digest_place places[2];
    digest_places(table, digest, places);
    for (unsigned choice = 0; choice < 2; choice++) {
        uint32_t same =
            matching_ways(table, places[choice].ways, UINT32_MAX, places[choice].tag | id);
        if (same != 0) {
            return places[choice].ways + lowest_way(same);
        }
    }
    return NULL;
}

#define LONGEST_DISPLACEMENT 3u

/* A free slot of the bucket. Where it is full, an entry moves to its other bucket, in which the same
 * is done first if need be: `moves` entries move at most. NULL: no room that way. */
static uint32_t *make_room(const struct hint_table *table, uint32_t *ways, unsigned moves) {
    uint32_t empty = empty_ways(table, ways);
    if (empty != 0) {
        return ways + lowest_way(empty);
    }
    uint32_t bucket = (uint32_t)((size_t)(ways - table->slots) / table->ways);
    for (unsigned more = 0; more < moves; more++) { /* short ways first */
        for (unsigned way = 0; way < table->ways; way++) {
            uint32_t other = other_bucket(table, bucket, ways[way] & tag_mask(table));
            uint32_t *room = make_room(table, table->slots + (size_t)other * table->ways, more);
            if (room != NULL) {
                *room = ways[way] ^ IN_SECOND_BUCKET;
                return ways + way;
            }
        }
    }
    return NULL;
}

/* Returns 1, or -1 when there is no room. */
static int insert_entry(struct hint_table *table, uint32_t digest, uint32_t id) {
    struct digest_place places[2];
    digest_places(table, digest, places);
    uint32_t first = empty_ways(table, places[0].ways);
    uint32_t second = empty_ways(table, places[1].ways);
    /* The emptier of the two keeps both from filling up. */
    unsigned choice = __builtin_popcount(second) > __builtin_popcount(first);
    uint32_t empty = choice ? second : first;
    uint32_t *slot = empty != 0 ? places[choice].ways + lowest_way(empty) : NULL;
    for (unsigned full = 0; slot == NULL && full < 2; full++) {
        choice = full;
        slot = make_room(table, places[full].ways, LONGEST_DISPLACEMENT);
    }
    if (slot == NULL) {
        return -1;
    }
    *slot = places[choice].tag | id;
    return 1;
}

int digest_table_insert(struct hint_table *table, uint32_t digest, uint32_t id) {
    uint32_t *alike[DIGEST_CANDIDATES];
    if (!widen_for(table, id, DIGEST_LAST_ID_BITS)) {
        return 0;
    }
    if (find_pair(table, digest, id) != NULL) {
        return 0;
    }
    /* Many objects may have one digest, when each has all the references that it can count. */
    if (find_alike(table, digest, alike) == DIGEST_CANDIDATES) {
        *alike[0] = (*alike[0] & tag_mask(table)) | id;
        return 0;
    }
    return insert_entry(table, digest, id);
}

int digest_table_replace(struct hint_table *table, uint32_t digest, uint32_t former, uint32_t id) {
    if (!widen_for(table, id, DIGEST_LAST_ID_BITS) || former >> table->id_bits != 0) {
        return 0;
    }
    uint32_t *slot = find_pair(table, digest, former);
    if (slot == NULL) {
        return 0;
    }
    *slot = (*slot & tag_mask(table)) | id;
    return 1;
}

int digest_table_remove(struct hint_table *table, uint32_t digest, uint32_t id) {
    uint32_t *slot = id >> table->id_bits != 0 ? NULL : find_pair(table, digest, id);
    if (slot == NULL) {
        return 0;
    }
    *slot = 0;
    return 1;
}

uint32_t digest_table_digest(const struct hint_table *table, size_t slot) {
    uint32_t tag = table->slots[slot] & tag_mask(table);
    uint32_t bucket = (uint32_t)(slot / table->ways);
    if (tag & IN_SECOND_BUCKET) {
        bucket = other_bucket(table, bucket, tag);
    }
    return (bucket << (32u - table->bucket_bits)) | ((tag << 1) >> table->bucket_bits);
}

size_t digest_table_grow(const struct hint_table *from, struct hint_table *to) {
    if (from->ways < HINT_MOST_WAYS) {
        add_a_way(from, to);
        return 0;
    }
    to->bucket_bits = from->bucket_bits + 1u;
    to->ways = HINT_LEAST_WAYS;
    to->id_bits = from->id_bits + 1u;
    size_t lost = 0;
    for (size_t slot = 0; slot < hint_table_slots(from); slot++) {
        uint32_t id = from->slots[slot] & ~tag_mask(from);
        if (id != 0 && insert_entry(to, digest_table_digest(from, slot), id) < 0) {
            lost++;
        }
    }
    return lost;
}

static inline uint32_t feature_tag(const struct hint_table *table, uint32_t feature) {
    return (feature << table->bucket_bits) & tag_mask(table);
}

uint32_t sketch_table_find(const struct hint_table *table, uint32_t feature) {
    const uint32_t *ways = hint_table_ways(table, feature);
    uint32_t tagged = tagged_ways(table, ways, feature_tag(table, feature));
    return tagged == 0 ? 0 : ways[lowest_way(tagged)] & ~tag_mask(table);
}

void sketch_table_put(struct hint_table *table, uint32_t feature, uint32_t id) {
    if (!widen_for(table, id, SKETCH_LAST_ID_BITS)) {
        return;
    }
    uint32_t *ways = hint_table_ways(table, feature);
    uint32_t tag = feature_tag(table, feature);
    /* An older object with the feature makes way, or an empty slot, or else the oldest. */
    uint32_t useless =
        matching_ways(table, ways, tag_mask(table), tag) | empty_ways(table, ways);
    unsigned way = useless == 0 ? table->ways - 1u : lowest_way(useless);
    memmove(ways + 1, ways, way * sizeof *ways);
    ways[0] = tag | id;
}

static void split_buckets(const struct hint_table *from, struct hint_table *to) {
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

void sketch_table_grow(const struct hint_table *from, struct hint_table *to) {
    if (from->ways < HINT_MOST_WAYS) {
        add_a_way(from, to);
    } else {
        /* The tags move up by the bit that now chooses the bucket. Their new lowest bit would be
         * unknown, so it goes to the ids; at their limit it stays, and half the entries are
         * lost. */
        to->bucket_bits = from->bucket_bits + 1u;
        to->ways = HINT_LEAST_WAYS;
        to->id_bits = from->id_bits < SKETCH_LAST_ID_BITS ? from->id_bits + 1u : from->id_bits;
        split_buckets(from, to);
    }
}
