#include "router.h"

#include <string.h>
#include <time.h>

/* What a patch is taken to cost beside its payload: the base may have to be kept for it alone. */
#define REFERENCE_BYTES 4u

/* Headroom under the record's limits, so that one batch can never overflow a counter. */
#define SHAREABLE_PAGE_REFERENCES (MAXIMUM_PAGE_REFERENCES - 2u * BATCH_PAGES)
#define USABLE_PATCH_REFERENCES (MAXIMUM_PATCH_REFERENCES - BATCH_PAGES)

static uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

void batch_classify(struct batch *batch, const struct routing *routing, uint32_t start,
                    uint32_t end) {
    for (uint32_t i = start; i < end; i++) {
        struct routed *r = &batch->routed[i];
        const uint8_t *page = batch->pages + (size_t)i * PAGE_BYTES;
        uint64_t word;
        memset(r, 0, sizeof *r);
        r->twin = -1;
        r->local_base = -1;
        r->route = ROUTE_UNDECIDED;
        if (page_is_same_filled(page, &word)) {
            if (word == 0) {
                r->route = ROUTE_ZERO;
                r->id = ID_ZERO;
                continue;
            }
            r->route = ROUTE_SAME;
            r->codec = CODEC_SAME;
            r->length = 8;
            r->payload_offset = i * PAGE_BYTES;
            memcpy(batch->arena + r->payload_offset, &word, 8);
        }
        r->digest = page_digest(page);
        if (r->route == ROUTE_UNDECIDED && routing->patch_codec != CODEC_NONE) {
            r->feature_count = (uint8_t)page_sketch(routing->sketch, page, r->features);
            for (unsigned f = 0; f < r->feature_count; f++) {
                r->features[f] ^= batch->key_mask;
            }
        }
    }
}

/* No payload for this page. Words that fill a page are told apart before anything is shared, so
 * such a page stays `same`. */
static void mark_shared(struct routed *r) {
    r->shared = 1;
    r->feature_count = 0;
    if (r->route == ROUTE_UNDECIDED) {
        r->route = ROUTE_IDENTICAL;
    }
}

/* Pages of the batch with the same bytes; the first stands for all. */
static void find_twins(struct batch *batch) {
    enum { SLOTS = 2 * BATCH_PAGES };
    uint16_t table[SLOTS]; /* page index + 1 */
    memset(table, 0, sizeof table);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct routed *r = &batch->routed[i];
        if (r->route == ROUTE_ZERO) {
            continue;
        }
        uint32_t slot = (uint32_t)r->digest & (SLOTS - 1u);
        for (; table[slot] != 0; slot = (slot + 1u) & (SLOTS - 1u)) {
            uint32_t other = table[slot] - 1u;
            if (batch->routed[other].digest == r->digest &&
                memcmp(batch->pages + (size_t)other * PAGE_BYTES,
                       batch->pages + (size_t)i * PAGE_BYTES, PAGE_BYTES) == 0) {
                r->twin = (int16_t)other;
                mark_shared(r);
                break;
            }
        }
        if (r->twin < 0) {
            table[slot] = (uint16_t)(i + 1u);
        }
    }
}

/* The two most frequent of the ids that the page's features lead to. */
static void vote(struct routed *r, const struct hint_table *sketches) {
    uint32_t ids[MAXIMUM_FEATURES];
    unsigned counts[MAXIMUM_FEATURES];
    unsigned distinct = 0;
    for (unsigned f = 0; f < r->feature_count; f++) {
        uint32_t id = sketch_table_find(sketches, r->features[f]);
        unsigned k = 0;
        if (id == 0) {
            continue;
        }
        while (k < distinct && ids[k] != id) {
            k++;
        }
        if (k == distinct) {
            ids[distinct] = id;
            counts[distinct++] = 0;
        }
        counts[k]++;
    }
    for (unsigned k = 0; k < distinct; k++) {
        if (counts[k] > r->votes[0]) {
            r->base_ids[1] = r->base_ids[0];
            r->votes[1] = r->votes[0];
            r->base_ids[0] = ids[k];
            r->votes[0] = (uint8_t)counts[k];
        } else if (counts[k] > r->votes[1]) {
            r->base_ids[1] = ids[k];
            r->votes[1] = (uint8_t)counts[k];
        }
    }
}

/* Pages whose buckets are fetched ahead: a table is larger than the processor's caches. */
#define AHEAD 16u

void batch_prefetch(const struct batch *batch, const struct routing *routing, uint32_t index,
                    const struct hint_table *digests, const struct hint_table *sketches) {
    uint32_t end = index + AHEAD + 1u < batch->count ? index + AHEAD + 1u : batch->count;
    for (uint32_t i = index == 0 ? 0 : index + AHEAD; i < end; i++) {
        const struct routed *r = &batch->routed[i];
        if (!routed_is_new(r)) {
            continue;
        }
        if (routing->share) {
            digest_table_prefetch(digests, batch_digest_key(batch, r));
        }
        for (unsigned f = 0; f < r->feature_count && sketches->slots != NULL; f++) {
            sketch_table_prefetch(sketches, r->features[f]);
        }
    }
}

void batch_propose(struct batch *batch, const struct routing *routing,
                   const struct hint_table *digests, const struct hint_table *sketches) {
    if (routing->share) {
        find_twins(batch);
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        struct routed *r = &batch->routed[i];
        batch_prefetch(batch, routing, i, digests, sketches);
        if (!routed_is_new(r)) {
            continue;
        }
        if (routing->share) {
            r->identical_count =
                (uint8_t)digest_table_find(digests, batch_digest_key(batch, r), r->identical_ids);
        }
        if (r->feature_count != 0 && sketches->slots != NULL) {
            vote(r, sketches);
        }
    }
}

/* The page of a stored object of the batch's domain, to be compared or patched; whether it can be
 * read. */
static int read_stored(struct extents *extents, codec_context *context, uint32_t id,
                       uint8_t *page) {
    __atomic_fetch_add(&extents->compared, 1, __ATOMIC_RELAXED);
    return extents_read(extents, context, id, page).status == READ_OK;
}

/* The stored object with the page's bytes that it can share, or 0. */
static uint32_t find_identical(struct batch *batch, uint32_t index, struct extents *extents,
                               codec_context *context) {
    struct routed *r = &batch->routed[index];
    for (unsigned i = 0; i < r->identical_count; i++) {
        struct object_record record;
        uint8_t stored[PAGE_BYTES];
        uint32_t id = r->identical_ids[i];
        if (extents_record_within(extents, batch->domain, id, &record) != READ_OK ||
            record.digest != (uint32_t)r->digest) {
            continue; /* the table knows a part of the digest only */
        }
        /* A payload that cannot be read is not shared: the page is stored anew, and whoever reads
         * the damaged one is told. */
        if (record_page_references(&record) < SHAREABLE_PAGE_REFERENCES &&
            read_stored(extents, context, id, stored) &&
            memcmp(stored, batch->pages + (size_t)index * PAGE_BYTES, PAGE_BYTES) == 0) {
            return id;
        }
        r->replaced_id = id;
    }
    return 0;
}

/* Newest page of the slice with a feature; direct-mapped like the store's own table. */
#define LOCAL_SLOTS 4096u
struct local_sketches {
    uint16_t slots[LOCAL_SLOTS]; /* page index + 1 */
};

static void remember_locally(struct local_sketches *local, const struct routed *r,
                             uint32_t index) {
    for (unsigned f = 0; f < r->feature_count; f++) {
        local->slots[r->features[f] & (LOCAL_SLOTS - 1u)] = (uint16_t)(index + 1u);
    }
}

static int has_feature(const struct routed *r, uint32_t feature) {
    for (unsigned f = 0; f < r->feature_count; f++) {
        if (r->features[f] == feature) {
            return 1;
        }
    }
    return 0;
}

static int vote_locally(const struct batch *batch, const struct local_sketches *local,
                        uint32_t index, unsigned *votes) {
    const struct routed *r = &batch->routed[index];
    int best = -1;
    *votes = 0;
    for (unsigned f = 0; f < r->feature_count; f++) {
        uint32_t slot = local->slots[r->features[f] & (LOCAL_SLOTS - 1u)];
        if (slot == 0 || (int)(slot - 1u) == best) {
            continue;
        }
        const struct routed *other = &batch->routed[slot - 1u];
        unsigned count = 0;
        for (unsigned g = 0; g < r->feature_count; g++) {
            count += (unsigned)has_feature(other, r->features[g]);
        }
        if (count > *votes) {
            *votes = count;
            best = (int)(slot - 1u);
        }
    }
    return best;
}

struct patch_choice {
    uint32_t length; /* 0: none */
    uint32_t base_id;
    int local_base;
    uint32_t depth;
    uint32_t base_length; /* of the base's own payload; 0 where it has none, in a group */
};

/* Tries one base; a better patch than `choice` replaces it, its bytes swapped into *best. */
static void try_patch(const struct batch *batch, const struct routing *routing,
                      codec_context *context, uint32_t index, const uint8_t *base,
                      struct patch_choice candidate, struct patch_choice *choice, uint8_t **best,
                      uint8_t **spare) {
    size_t capacity = choice->length != 0 ? choice->length - 1u : routing->patch_limit - 1u;
    capacity = capacity > PAGE_BYTES - REFERENCE_BYTES ? PAGE_BYTES - REFERENCE_BYTES : capacity;
    size_t length = codec_encode(context, routing->patch_codec, routing->patch_level,
                                 batch->pages + (size_t)index * PAGE_BYTES, base, *spare,
                                 capacity);
    if (length == 0) {
        return;
    }
    uint8_t *swap = *best;
    *best = *spare;
    *spare = swap;
    candidate.length = (uint32_t)length;
    *choice = candidate;
}

/* With one feature in common, pages are alike when the run around it is long, too; and half of
 * them or more are not, for which a try takes as long as compressing the page. */
static int is_worth_a_try(const struct routing *routing, unsigned votes, const uint8_t *page,
                          const uint8_t *base) {
    return votes != 1 || routing->single_vote_run == 0 || routing->sketch != SKETCH_MIN_HASH ||
           page_common_run(page, base) >= routing->single_vote_run;
}

/* Bases decoded of late, for one slice of a batch, while no object changes: neighbours are often
 * like the same page (a quarter to two fifths of tries find theirs here). */
#define RECENT_BASES 16u
struct recent_bases {
    uint32_t ids[RECENT_BASES]; /* 0: free */
    uint32_t oldest;
    uint8_t pages[RECENT_BASES][PAGE_BYTES];
};

/* The page of a stored base; NULL when it cannot be read. */
static const uint8_t *read_base(struct recent_bases *recent, struct extents *extents,
                                codec_context *context, uint32_t id) {
    for (uint32_t i = 0; i < RECENT_BASES; i++) {
        if (recent->ids[i] == id) {
            return recent->pages[i];
        }
    }
    uint32_t place = recent->oldest;
    recent->ids[place] = 0;
    if (!read_stored(extents, context, id, recent->pages[place])) {
        return NULL;
    }
    recent->ids[place] = id;
    recent->oldest = (place + 1u) % RECENT_BASES;
    return recent->pages[place];
}

/* A member of a group of LZMA: a patch of it would be as slow. */
static int is_slow_to_read(struct extents *extents, const struct object_record *record) {
    struct object_record group;
    return record_is_member(record) &&
           (extents_record(extents, record->base, &group) != READ_OK ||
            record_codec(&group) == CODEC_GROUP_LZMA);
}

/* Returns 0 when the base is not tried. */
static int try_stored_base(struct batch *batch, const struct routing *routing,
                           struct extents *extents, codec_context *context,
                           struct recent_bases *recent, uint32_t index, unsigned which,
                           struct patch_choice *choice, uint8_t **best, uint8_t **spare) {
    const struct routed *r = &batch->routed[index];
    uint32_t base_id = r->base_ids[which];
    struct object_record record;
    if (base_id == 0 || r->votes[which] < routing->minimum_votes ||
        extents_record_within(extents, batch->domain, base_id, &record) != READ_OK ||
        record_codec(&record) == CODEC_SAME ||
        record_patch_references(&record) >= USABLE_PATCH_REFERENCES ||
        is_slow_to_read(extents, &record)) {
        return 0;
    }
    unsigned depth = codec_is_patch(record_codec(&record))
                         ? 1u + extents_depth(extents, record.base, routing->maximum_depth)
                         : 0;
    if (depth >= routing->maximum_depth) {
        return 0;
    }
    const uint8_t *base = read_base(recent, extents, context, base_id);
    if (base == NULL || !is_worth_a_try(routing, r->votes[which],
                                        batch->pages + (size_t)index * PAGE_BYTES, base)) {
        return 0;
    }
    struct patch_choice candidate = {0, base_id, -1, depth + 1u, record_length(&record)};
    try_patch(batch, routing, context, index, base, candidate, choice, best, spare);
    return 1;
}

static void try_local_base(struct batch *batch, const struct routing *routing,
                           codec_context *context, uint32_t index, int local_base,
                           struct patch_choice *choice, uint8_t **best, uint8_t **spare) {
    const struct routed *base = &batch->routed[local_base];
    struct patch_choice candidate = {0, 0, local_base, base->depth + 1u, base->length};
    try_patch(batch, routing, context, index, batch->pages + (size_t)local_base * PAGE_BYTES,
              candidate, choice, best, spare);
}

static void route_unique(struct batch *batch, const struct routing *routing,
                         struct extents *extents, codec_context *context,
                         struct local_sketches *local, struct recent_bases *recent,
                         uint32_t index) {
    struct routed *r = &batch->routed[index];
    const uint8_t *page = batch->pages + (size_t)index * PAGE_BYTES;
    uint8_t *out = batch->arena + (size_t)index * PAGE_BYTES;
    uint8_t patches[2][PAGE_BYTES];
    uint8_t *best = patches[0];
    uint8_t *spare = patches[1];
    struct patch_choice patch = {0, 0, -1, 0, 0};

    if (r->feature_count != 0) {
        unsigned tried = 0;
        unsigned local_votes = 0;
        int local_base = vote_locally(batch, local, index, &local_votes);
        /* Neighbours in a batch share one big thing at most (measured: 35 bytes gained a try with
         * one feature in common, 120 with a stored page), so they must agree in two. */
        int local_usable = local_base >= 0 && local_votes >= 2 &&
                           batch->routed[local_base].local_references < USABLE_PATCH_REFERENCES;
        int local_first = local_usable && local_votes > r->votes[0];
        if (local_first) {
            try_local_base(batch, routing, context, index, local_base, &patch, &best, &spare);
            tried++;
        }
        for (unsigned k = 0; k < 2 && tried < routing->candidates; k++) {
            tried += (unsigned)try_stored_base(batch, routing, extents, context, recent, index, k,
                                               &patch, &best, &spare);
        }
        if (local_usable && !local_first && tried < routing->candidates) {
            try_local_base(batch, routing, context, index, local_base, &patch, &best, &spare);
        }
    }

    /* Pages alike compress alike: a patch far below the base's own payload needs no comparison. */
    int take_patch = patch.length != 0 &&
                     (routing->patch_ratio == 0 ||
                      (patch.length + REFERENCE_BYTES) * 256u <
                          patch.base_length * routing->patch_sure_ratio);
    uint32_t compressed = 0;
    if (!take_patch) {
        if (routing->compress_codec != CODEC_NONE) {
            compressed = (uint32_t)codec_encode(context, routing->compress_codec,
                                                routing->compress_level, page, NULL, out,
                                                PAYLOAD_LIMIT);
        }
        uint32_t kept = compressed != 0 ? compressed : PAGE_BYTES;
        take_patch = patch.length != 0 &&
                     (patch.length + REFERENCE_BYTES) * 256u < kept * routing->patch_ratio;
    }

    r->payload_offset = index * PAGE_BYTES;
    if (take_patch) {
        memcpy(out, best, patch.length);
        r->route = ROUTE_PATCH;
        r->codec = (uint8_t)routing->patch_codec;
        r->length = (uint16_t)patch.length;
        r->depth = (uint8_t)patch.depth;
        r->base_id = patch.base_id;
        r->local_base = (int16_t)patch.local_base;
        if (patch.local_base >= 0) {
            batch->routed[patch.local_base].local_references++;
        }
    } else if (compressed != 0) {
        r->route = ROUTE_COMPRESS;
        r->codec = (uint8_t)routing->compress_codec;
        r->length = (uint16_t)compressed;
    } else {
        r->route = ROUTE_RAW;
        r->codec = CODEC_RAW;
        r->length = PAGE_BYTES;
    }
    if (r->depth < routing->maximum_depth) {
        remember_locally(local, r, index);
    } else {
        r->feature_count = 0; /* never a base: keep it out of the tables */
    }
}

void batch_route(struct batch *batch, const struct routing *routing, struct extents *extents,
                 codec_context *context, uint32_t start, uint32_t end) {
    struct local_sketches local;
    struct recent_bases recent;
    memset(&local, 0, sizeof local);
    memset(recent.ids, 0, sizeof recent.ids);
    recent.oldest = 0;
    for (uint32_t i = start; i < end; i++) {
        struct routed *r = &batch->routed[i];
        if (!routed_is_new(r)) {
            continue;
        }
        uint64_t began = nanoseconds();
        r->id = routing->share ? find_identical(batch, i, extents, context) : 0;
        if (r->id != 0) {
            mark_shared(r);
        } else if (r->route == ROUTE_UNDECIDED) {
            route_unique(batch, routing, extents, context, &local, &recent, i);
        }
        r->encode_nanoseconds = (uint32_t)(nanoseconds() - began);
    }
}

uint32_t batch_pack(struct batch *batch, uint32_t next, uint32_t extent,
                    union extent_header *header, uint8_t *out, size_t capacity, size_t *written) {
    uint32_t slot = 1;
    size_t room = EXTENT_SIDE_BYTES - header->prefix.end;
    size_t filled = 0;
    room = room < capacity ? room : capacity;
    for (; next < batch->count; next++) {
        struct routed *r = &batch->routed[next];
        if (!routed_is_new(r)) {
            continue;
        }
        while (slot <= EXTENT_SLOTS && record_codec(&header->records[slot]) != CODEC_NONE) {
            slot++;
        }
        size_t length = r->length;
        if (slot > EXTENT_SLOTS || filled + length > room) {
            break;
        }
        memcpy(out + filled,
               r->codec == CODEC_RAW ? batch->pages + (size_t)next * PAGE_BYTES
                                     : batch->arena + r->payload_offset,
               length);
        if (r->local_base >= 0) {
            r->base_id = batch->routed[r->local_base].id;
        }
        struct object_record *record = &header->records[slot];
        record->place = (uint32_t)(header->prefix.end + filled) | ((uint32_t)(length - 1u) << 20);
        record->kind = r->codec;
        record->base = r->base_id;
        record->digest = (uint32_t)r->digest;
        r->id = (extent << 8) | slot;
        if (slot > header->prefix.used) {
            header->prefix.used = (uint8_t)slot;
        }
        filled += length;
    }
    header->prefix.end += (uint32_t)filled;
    header->prefix.refined = 0;
    *written = filled;
    return next;
}

void header_rewrite(const union extent_header *header, const uint8_t *side,
                    union extent_header *staged, uint8_t *out) {
    uint32_t end = 0;
    memset(staged, 0, sizeof *staged);
    staged->prefix.generation = header->prefix.generation + 1u;
    staged->prefix.domain = header->prefix.domain;
    staged->prefix.refined = header->prefix.refined;
    for (uint32_t slot = 1; slot <= EXTENT_SLOTS; slot++) {
        const struct object_record *record = &header->records[slot];
        if (record_codec(record) == CODEC_NONE) {
            continue;
        }
        uint32_t length = record_length(record);
        staged->records[slot] = *record;
        staged->prefix.used = (uint8_t)slot;
        if (record_is_member(record)) {
            continue;
        }
        staged->records[slot].place = end | ((length - 1u) << 20);
        memcpy(out + end, side + record_offset(record), length);
        end += length;
    }
    staged->prefix.end = end;
}
