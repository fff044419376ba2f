/* Extents: packed payloads in one sparse file, described by headers of 16-byte object records.
 *
 * Extent e owns two sides of 1 MiB of file address space, at (2 e) and (2 e + 1) MiB. The
 * generation in its header counts the sides that were current: its last bit says which one is.
 * Payloads are only ever appended to the current side; dead ones are dropped by rewriting the extent
 * to its other side. So no byte that the last commit refers to is overwritten before the next
 * commit. */
#ifndef DIFFFS_EXTENTS_H
#define DIFFFS_EXTENTS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "group_cache.h"
#include "key_map.h"
#include "number_set.h"

#define EXTENT_SIDE_BYTES (1u << 20)
#define EXTENT_SLOTS 254u                             /* slots 1 to 254 of an extent hold objects */
#define HEADER_BYTES (16u * (EXTENT_SLOTS + 1u))      /* 4,080: exactly one LMDB overflow page */
#define MAXIMUM_PAGE_REFERENCES 16383u
#define MAXIMUM_PATCH_REFERENCES 1023u
#define MAXIMUM_DEPTH 15u
#define EXTENT_LIMIT (1u << 24) /* extents' numbers are below it */

/* Object ids: extent (from 1) in the upper 24 bits, slot (1 to 254) in the lower 8. Every object's
 * id is above 255, so these can never be objects. */
#define ID_HOLE 0u   /* never written, or punched */
#define ID_LOST 254u /* what was written is lost: reading fails */
#define ID_ZERO 255u /* written as zeros */

static inline uint32_t id_extent(uint32_t id) { return id >> 8; }
static inline uint32_t id_slot(uint32_t id) { return id & 255u; }
static inline int id_is_object(uint32_t id) { return id > 255u; }

/* Little endian on disk; built only for little-endian machines (checked in setup.py). */
struct header_prefix {
    uint32_t end;        /* first free byte of the side */
    uint32_t generation;
    uint32_t domain;     /* that all its objects belong to: nothing is shared with another */
    uint8_t used;        /* highest slot ever used on this header */
    uint8_t refined;     /* enum tier: what refining has made of all its objects or tried to */
    uint8_t reserved[2];
};

/* A group is an object with a payload of several pages. Its members are objects without any, each a page
 * of it: they have references like all others, and the group has one for each of them that is alive. No
 * page is mapped to a group, and it is no base. */
struct object_record {
    uint32_t place;  /* offset in the side (20 bits), length - 1 (12 bits); of a member: which page of
                      * the group */
    uint32_t kind;   /* codec (8 bits), references by pages (14 bits), by patches (10 bits); of a group:
                      * codec, upper bits of length - 1 (6), members alive (7) and made (7) */
    uint32_t base;   /* of a patch: the id of its base; of a member: of its group; else 0 */
    uint32_t digest; /* low half of the page's digest: what is decoded must have it; of a group: of its
                      * payload */
};

union extent_header {
    struct header_prefix prefix;
    struct object_record records[EXTENT_SLOTS + 1u];
};

static inline uint32_t record_offset(const struct object_record *r) { return r->place & 0xfffffu; }
static inline unsigned record_codec(const struct object_record *r) { return r->kind & 255u; }
static inline int record_is_group(const struct object_record *r) {
    return codec_is_group(record_codec(r));
}
static inline int record_is_member(const struct object_record *r) {
    return record_codec(r) == CODEC_MEMBER;
}
/* Of the payload. */
static inline uint32_t record_length(const struct object_record *r) {
    return record_is_member(r)  ? 0
           : record_is_group(r) ? ((r->place >> 20) | ((r->kind >> 8 & 63u) << 12)) + 1u
                                : (r->place >> 20) + 1u;
}
/* Which page of its group a member is. */
static inline uint32_t record_group_page(const struct object_record *r) { return r->place; }
/* Of a group. */
static inline uint32_t record_members(const struct object_record *r) { return r->kind >> 14 & 127u; }
static inline uint32_t record_members_made(const struct object_record *r) {
    return r->kind >> 21 & 127u;
}
static inline void record_set_group(struct object_record *r, unsigned codec, uint32_t offset,
                                    uint32_t length, uint32_t members, uint32_t made) {
    r->place = offset | (length - 1u) << 20;
    r->kind = codec | ((length - 1u) >> 12) << 8 | members << 14 | made << 21;
}
/* Of all but a group. */
static inline uint32_t record_references(const struct object_record *r) { return r->kind >> 8; }
static inline uint32_t record_page_references(const struct object_record *r) {
    return record_references(r) & MAXIMUM_PAGE_REFERENCES;
}
static inline uint32_t record_patch_references(const struct object_record *r) {
    return record_references(r) >> 14;
}
static inline void record_set_references(struct object_record *r, uint32_t pages,
                                         uint32_t patches) {
    r->kind = (r->kind & 255u) | (pages << 8) | (patches << 22);
}

enum header_state {
    HEADER_CLEAN = 0,      /* as in the index; may be dropped */
    HEADER_COMMITTING = 1, /* handed to a commit that is under way */
    HEADER_DIRTY = 2,      /* changed since the last commit */
};

/* Extents with at least so many free slots are worth a turn of packing. */
#define ROOMY_SLOTS 16u

/* Each extent that is worth a turn of packing is in a list of those of its domain with as much room
 * (so many free slots), and, when it has dead payloads, in one of those of its domain whose share of
 * them is the same. Any extent with dead payloads is in such a list of all domains together. Thus
 * choosing one looks at lists' heads only. */
enum extent_list {
    LIST_ROOM = 0,
    LIST_DEAD = 1,
    LISTS_OF_DOMAIN = 2,
    LIST_ALL_DEAD = 2,
    LIST_KINDS = 3,
};
#define DEAD_SHARES 256u                /* dead payloads in so many parts of the used side */
#define LIST_BUCKETS (DEAD_SHARES + 1u) /* bucket 0 is no list; free slots are fewer */

struct extent_link {
    uint32_t next;     /* numbers of extents; 0: none */
    uint32_t previous;
    uint16_t bucket;   /* free slots, or the share of dead payloads */
};

/* Sums over extents in use. */
struct extent_sums {
    uint64_t live;    /* bytes of payloads */
    uint64_t dead;    /* bytes of payloads that are gone, in extents that hold others and are not left
                         alone */
    uint64_t emptied; /* bytes of extents that hold nothing any more */
    uint64_t objects;
};

/* What is known of a domain that has extents. */
struct extent_domain {
    uint32_t number;
    uint32_t extents; /* in use */
    uint32_t heads[LISTS_OF_DOMAIN][LIST_BUCKETS];
    struct extent_sums sums;
    uint64_t decoded; /* objects, but for domain 0: that is the rest of all. Atomic */
    uint64_t decode_nanoseconds;
    struct extent_domain *spare; /* the next one that is not in use */
};

/* What is known of an extent at all times, and its header while that is in memory. */
struct extent {
    union extent_header *header; /* NULL: not loaded */
    struct extent_domain *domain; /* NULL: not in use */
    uint32_t live_bytes;
    uint32_t end;       /* of the current side, as in the header */
    uint32_t generation;
    uint16_t live_slots;
    uint8_t in_use;
    uint8_t state;      /* enum header_state */
    uint8_t flipped;    /* rewritten since the last commit: the other side is still needed */
    uint8_t touched;    /* looked at since the last trim */
    uint8_t left_alone; /* its side cannot be read: nothing is put there, it is not rewritten */
    uint32_t epoch;     /* counts the times that the current side changed, or all of it went */
    struct extent_link links[LIST_KINDS];
};

struct extent_totals {
    uint64_t objects[CODEC_COUNT];
    uint64_t bytes[CODEC_COUNT];
    uint64_t page_references[CODEC_COUNT]; /* of groups: members alive */
    uint64_t pageless[CODEC_COUNT]; /* objects that no page refers to: bases that patches keep; of groups:
                                     * members that are gone */
};

/* Nothing here takes longer with more extents, but for opening a store.
 *
 * Lock rule: `lock` guards the array, the header pointers and the records behind them. Every lookup
 * takes it for reading, and copies what it needs; whatever changes any of them takes it for writing.
 * Only the routing thread changes records, lists and sums, so that one looks at them without it.
 *
 * Payloads are read without any lock. Bytes of a side never change while it is current, because
 * payloads are only appended: what was read is the object's payload if, afterwards, the extent's
 * epoch is the same as when the record was copied (docs/concurrency.md). */
struct extents {
    pthread_rwlock_t lock;
    struct extent *array;
    uint32_t count;    /* extents known: numbers 0 to count - 1 */
    uint32_t capacity;
    uint32_t hand;     /* of the clock that trims headers */
    int file;
    struct number_set free;    /* known numbers that are not in use */
    struct number_set loaded;  /* with their header in memory */
    struct number_set dirty;   /* with a state other than HEADER_CLEAN */
    struct number_set flipped;
    uint32_t all_dead[LIST_BUCKETS];
    struct extent_sums sums;
    struct extent_totals totals;
    struct group_cache groups;
    int has_domains;             /* decoding is counted by domain; set before any thread reads */
    struct extent_domain first;  /* domain 0, which is always there */
    struct key_map domains;      /* of struct extent_domain: the others with extents, by number */
    struct extent_domain *spare; /* those that have none any more, for the next ones */
    uint64_t compared; /* stored pages that routing has read, to share them or as bases; atomic */
    uint64_t members_read;  /* pages of groups that were asked for; atomic */
    uint64_t members_decoded; /* and that were decoded for that; atomic */
    uint64_t refused;  /* objects proposed to it that are another domain's; atomic */
};

enum read_status {
    READ_OK = 0,
    READ_HEADER_MISSING = 1, /* load the header of the extent in `culprit` and try again */
    READ_NO_OBJECT = -1,     /* a reference to an object that is not there */
    READ_DIGEST = -2,        /* what it decodes to is another page */
    READ_DECODE = -3,
    READ_SHORT = -4,         /* the file ends before the payload does */
    READ_ERROR = -5,         /* errno from pread in `error` */
    READ_DEPTH = -6,         /* a chain of patches longer than any recipe allows */
    READ_STALE = 2,          /* the object was moved or freed meanwhile: look it up again */
    READ_LOST = -7,          /* the id says that the page is lost */
};

struct read_result {
    enum read_status status;
    uint32_t culprit; /* object id, or extent number when a header is missing */
    int error;
    unsigned codec;   /* of the object asked for */
};

int extents_init(struct extents *extents);
void extents_free(struct extents *extents);

/* Makes room for extent numbers below count. Returns 0, or -1 without memory. */
int extents_grow(struct extents *extents, uint32_t count);

/* Copies the record of id. */
enum read_status extents_record(struct extents *extents, uint32_t id,
                                struct object_record *record);

/* The same for what is proposed to be shared, or as a base, in a domain: an object of another one is
 * READ_NO_OBJECT, and counts as refused. Nothing of its page has been looked at. */
enum read_status extents_record_within(struct extents *extents, uint32_t domain, uint32_t id,
                                       struct object_record *record);

/* What reading an object needs, as it was at one moment. */
struct object_snapshot {
    struct object_record record;
    uint32_t id;
    uint32_t epoch;
    uint8_t side;
};

/* Copies what reading id needs: READ_OK, READ_HEADER_MISSING or READ_NO_OBJECT. */
enum read_status extents_snapshot(struct extents *extents, uint32_t id,
                                  struct object_snapshot *snapshot);

/* Reads, verifies and decodes the object of a snapshot into page, with no lock held by the caller.
 * READ_STALE when it was moved or freed since the snapshot: the id may mean another object now. */
struct read_result extents_read_snapshot(struct extents *extents, codec_context *context,
                                         const struct object_snapshot *snapshot, uint8_t *page);

/* Reads, verifies and decodes one object into page. The caller vouches that it is not freed
 * meanwhile. */
struct read_result extents_read(struct extents *extents, codec_context *context, uint32_t id,
                                uint8_t *page);

/* How many patches there are from an object down to its last base; at most `limit`, which is also
 * the answer where an object is missing, or its header is not in memory. */
unsigned extents_depth(struct extents *extents, uint32_t id, unsigned limit);

/* What is known of an extent without its header; kept beside it in the index. */
struct extent_summary {
    uint32_t generation;
    uint32_t domain;
    uint32_t end;
    uint32_t live_bytes;
    uint8_t live_slots;
};
#define SUMMARY_BYTES 17u /* of its fields */

void header_summarise(const union extent_header *header, struct extent_summary *summary);

/* Makes an extent known that is not in memory; for opening a store. Its objects are in no total.
 * Returns 0, or -1 without memory. */
int extents_account(struct extents *extents, uint32_t number,
                     const struct extent_summary *summary);

/* Counts the objects of a header into the totals. */
void extents_count(struct extents *extents, const union extent_header *header);

/* Puts a copy of a header in memory. Returns 0, or -1: without memory, or for another domain than the
 * extent's. */
int extents_load(struct extents *extents, uint32_t number, const union extent_header *header,
                 enum header_state state);

/* Drops clean headers until at most `limit` are in memory, those not looked at lately first. */
void extents_trim(struct extents *extents, uint32_t limit);

/* Drops an empty extent. */
void extents_drop(struct extents *extents, uint32_t number);

/* Loads a header that packing or rewriting has made: dirty; after rewriting, the extent's former
 * side is needed until the next commit. Returns 0, or -1 without memory. */
int extents_install(struct extents *extents, uint32_t number, const union extent_header *header,
                    int rewritten);

/* Moves a dirty header into a commit. */
void extents_begin_commit(struct extents *extents, uint32_t number);

/* Ends the commit for one dirty header. */
void extents_end_commit(struct extents *extents, uint32_t number, int succeeded);

/* Tells that nothing needs the extent's former side any more. */
void extents_settle(struct extents *extents, uint32_t number);

/* Registers records that packing has added to a loaded header (slot had no object before). */
void extents_added(struct extents *extents, uint32_t id);

/* One more reference by a page or a patch. The header is loaded. Returns 0, or -1: no such object
 * or the counter is full (a bug in the router). */
int extents_reference(struct extents *extents, uint32_t id, int by_patch);

struct release_result {
    int freed;       /* the object is gone */
    int is_group;    /* and was a group: no table has its digest */
    uint32_t digest; /* of the freed object */
    uint32_t domain; /* that it belonged to */
    uint32_t base;   /* that the freed patch referred to, or the freed member's group, or 0: to be released
                      * as by a patch */
};

/* One reference less, of a group one member; frees the object with the last. The header is loaded.
 * Returns 0, or -1: no such object or no such reference. */
int extents_release(struct extents *extents, uint32_t id, int by_patch,
                    struct release_result *result);

/* Makes an object a member of a group that is there and has room for it: `page` says which page of the
 * group it is, whose bytes the caller has compared. It keeps its id, digest and references. *left is the
 * base or the group that it had before, to be released as by a patch, or 0. Both headers are loaded.
 * Returns 0, or -1: no such object, or no such group (a bug in refining). */
int extents_join(struct extents *extents, uint32_t id, uint32_t group, uint32_t page,
                 uint32_t *left);

/* Notes what refining has made of an extent's objects. The header is loaded. */
void extents_note_refined(struct extents *extents, uint32_t number, uint8_t tier);

/* What an object's payload takes, of a member its part of the group's, and the references by pages (of
 * a group none): READ_OK, or the status of the record that could not be had, whose id *culprit is. */
enum read_status extents_bytes_of(struct extents *extents, uint32_t id, double *bytes,
                                  uint32_t *pages, uint32_t *culprit);

/* Frees an object that nothing refers to yet (undoing extents_added). */
void extents_discard(struct extents *extents, uint32_t id);

/* The extent of a domain to put new payloads in: enum choice_kind tells how. Rewrites one of those with
 * the largest share of dead bytes while these are more than dead_share_256 256ths of the domain's live
 * ones, else appends to one with the most free slots. An extent with fewer than ROOMY_SLOTS of these is
 * passed over, and so is one that holds nothing: it goes with the next commit. */
enum choice_kind { CHOICE_NEW = 0, CHOICE_APPEND = 1, CHOICE_REWRITE = 2 };
enum choice_kind extents_choose(const struct extents *extents, uint32_t domain,
                                uint32_t dead_share_256, uint32_t *number);

/* One of the extents of all domains with the largest share of dead bytes, while these are more than
 * dead_share_256 256ths of the live ones; else 0. */
uint32_t extents_deadest(const struct extents *extents, uint32_t dead_share_256);

/* Tells that an extent's side cannot be read: until the store is opened anew, or the extent goes, it
 * is chosen for nothing, and its dead bytes count as none. */
void extents_leave_alone(struct extents *extents, uint32_t number);

/* A domain's sums and counters; zeros where it has no extents. With the store's lock. */
void extents_tell_domain(struct extents *extents, uint32_t number, struct extent_domain *told);

/* Counts the decoding of an object for its domain, where there are any; domain 0 is not counted. Any
 * thread. */
void extents_count_decoded(struct extents *extents, uint32_t id, uint64_t nanoseconds);

/* Bytes of a header as stored, i.e. cut behind its highest used slot. */
static inline size_t header_stored_bytes(const union extent_header *header) {
    return 16u * ((size_t)header->prefix.used + 1u);
}

/* Whether every payload lies within the side's used part and the numbers are in range. */
enum header_verdict {
    HEADER_SOUND = 0,
    HEADER_CONTRADICTS = 1,
    HEADER_UNKNOWN = 2, /* a codec that this version does not know */
};
enum header_verdict header_judge(const union extent_header *header);

#endif
