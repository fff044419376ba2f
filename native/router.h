/* Routing of one batch of pages: zero/same -> identical -> patch -> compress -> raw.
 *
 * A batch is worked on in steps, so that the heavy ones (classify, route) run on several threads,
 * each on its own slice, while the steps that look at shared tables stay on one. */
#ifndef DIFFFS_ROUTER_H
#define DIFFFS_ROUTER_H

#include "extents.h"
#include "tables.h"

#define BATCH_PAGES 512u
#define PAYLOAD_LIMIT (PAGE_BYTES - 64u) /* a payload above this is kept raw */

enum route {
    ROUTE_ZERO = 0,
    ROUTE_SAME = 1,
    ROUTE_IDENTICAL = 2,
    ROUTE_PATCH = 3,
    ROUTE_COMPRESS = 4,
    ROUTE_RAW = 5,
    ROUTE_COUNT = 6,
    ROUTE_UNDECIDED = 255,
};

/* The routing part of a recipe (difffs/recipe.py explains each). */
struct routing {
    int share;
    enum sketch_kind sketch;
    unsigned candidates;    /* bases tried a page, 1 or 2 */
    unsigned minimum_votes; /* features that a stored base must share with the page */
    uint32_t single_vote_run; /* bytes in a row that one shared feature must stand for; 0: any */
    enum codec patch_codec; /* CODEC_NONE: no patching */
    int patch_level;
    uint32_t patch_limit;       /* a patch of this many bytes or more is refused */
    uint32_t patch_ratio;       /* accepted below this many 256ths of the compressed size; 0: always */
    uint32_t patch_sure_ratio;  /* below this many 256ths of the base's own payload: do not compress */
    unsigned maximum_depth;
    enum codec compress_codec; /* CODEC_NONE: raw */
    int compress_level;
};

struct routed {
    uint64_t digest;
    uint32_t features[MAXIMUM_FEATURES];
    uint32_t identical_ids[DIGEST_CANDIDATES]; /* proposed by the digest table */
    uint32_t replaced_id; /* has the page's digest, but cannot be shared: forgotten; 0: none */
    uint32_t base_ids[2];    /* proposed by the sketch table, best first; 0: none */
    uint32_t id;             /* the outcome: object id, ID_ZERO, or 0 until packed */
    uint32_t base_id;        /* of a patch: the stored object; 0 until packed with local_base */
    uint32_t payload_offset; /* in the batch's arena */
    uint32_t encode_nanoseconds;
    int16_t twin;            /* earlier page of the batch with the same bytes, or -1 */
    int16_t local_base;      /* earlier page of the batch that the patch refers to, or -1 */
    uint16_t length;         /* of the payload */
    uint16_t local_references; /* patches of this batch against this page */
    uint8_t identical_count;
    uint8_t votes[2];
    uint8_t feature_count;
    uint8_t route;
    uint8_t shared; /* with an object that is there, or with the twin: no object of its own */
    uint8_t codec;
    uint8_t depth;
};

/* Whether the page has an object of its own; once it is routed. Zeros need none, a same-filled page
 * keeps its route though it shares one. */
static inline int routed_is_new(const struct routed *r) {
    return r->route != ROUTE_ZERO && !r->shared;
}

/* Whether routing the page is work, as far as proposing has told: it is not, where the page is zeros
 * or another of the batch; and it is less, where a stored page may be identical. */
static inline int routed_is_to_be_encoded(const struct routed *r) {
    return r->route == ROUTE_UNDECIDED && !r->shared && r->identical_count == 0;
}

struct batch {
    const uint8_t *pages; /* the caller's; alive until packed */
    uint32_t count;
    uint32_t domain;   /* of all pages: only its objects are shared with, or are bases */
    uint32_t key_mask; /* domain_key_mask() of it */
    struct routed routed[BATCH_PAGES];
    uint8_t *arena; /* BATCH_PAGES pages */
};

/* What the digest table knows a page by; a page's features are kept as the sketch table knows them. */
static inline uint32_t batch_digest_key(const struct batch *batch, const struct routed *r) {
    return (uint32_t)r->digest ^ batch->key_mask;
}

/* Steps, in order. [start, end) is the slice. */
void batch_classify(struct batch *batch, const struct routing *routing, uint32_t start,
                    uint32_t end);
void batch_propose(struct batch *batch, const struct routing *routing,
                   const struct hint_table *digests, const struct hint_table *sketches);
void batch_route(struct batch *batch, const struct routing *routing, struct extents *extents,
                 codec_context *context, uint32_t start, uint32_t end);

/* Fetches the buckets of pages that come a little behind `index`; for loops over all pages that
 * look into the tables or change them. */
void batch_prefetch(const struct batch *batch, const struct routing *routing, uint32_t index,
                    const struct hint_table *digests, const struct hint_table *sketches);

/* Packs new objects from page index `next` on into the staged header of an extent: payloads go to out (which
 * stands for the side's bytes from header->prefix.end), slots and ids are given. Stops when the
 * slots, the side or `capacity` are used up. Returns the index to go on with; *written tells how
 * much of out was filled. */
uint32_t batch_pack(struct batch *batch, uint32_t next, uint32_t extent,
                    union extent_header *header, uint8_t *out, size_t capacity, size_t *written);

/* Copies the live payloads of an extent, closed up, into out (EXTENT_SIDE_BYTES large) and the
 * header to *staged with the next generation and new places. `side` holds the extent's current bytes. */
void header_rewrite(const union extent_header *header, const uint8_t *side,
                    union extent_header *staged, uint8_t *out);

#endif
