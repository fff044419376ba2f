#include "extents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int extents_init(struct extents *extents) {
    memset(extents, 0, sizeof *extents);
    extents->file = -1;
    if (group_cache_init(&extents->groups)) {
        return -1;
    }
    return pthread_rwlock_init(&extents->lock, NULL) == 0 ? 0 : -1;
}

void extents_free(struct extents *extents) {
    for (uint32_t number = 0; number < extents->count; number++) {
        free(extents->array[number].header);
    }
    free(extents->array);
    extents->array = NULL;
    number_set_free(&extents->free);
    number_set_free(&extents->loaded);
    number_set_free(&extents->dirty);
    number_set_free(&extents->flipped);
    size_t at = 0;
    uint64_t key;
    struct extent_domain *domain;
    while ((domain = key_map_next(&extents->domains, &at, &key)) != NULL) {
        free(domain);
    }
    key_map_free(&extents->domains);
    while ((domain = extents->spare) != NULL) {
        extents->spare = domain->spare;
        free(domain);
    }
    group_cache_free(&extents->groups);
    pthread_rwlock_destroy(&extents->lock);
}

static int grow(struct extents *extents, uint32_t count) {
    if (count > extents->capacity) {
        uint32_t capacity = extents->capacity + extents->capacity / 2u;
        capacity = capacity < 64u ? 64u : capacity;
        capacity = capacity < count ? count : capacity;
        if (number_set_grow(&extents->free, capacity) ||
            number_set_grow(&extents->loaded, capacity) ||
            number_set_grow(&extents->dirty, capacity) ||
            number_set_grow(&extents->flipped, capacity)) {
            return -1;
        }
        struct extent *array = realloc(extents->array, (size_t)capacity * sizeof *array);
        if (array == NULL) {
            return -1;
        }
        memset(array + extents->capacity, 0,
               (size_t)(capacity - extents->capacity) * sizeof *array);
        extents->array = array;
        extents->capacity = capacity;
    }
    for (; extents->count < count; extents->count++) {
        if (extents->count != 0) { /* number 0 is never used */
            number_set_add(&extents->free, extents->count);
        }
    }
    return 0;
}

/* A domain that has extents, or NULL. */
static struct extent_domain *find_domain(const struct extents *extents, uint32_t number) {
    return number == 0 ? (struct extent_domain *)&extents->first
                       : key_map_get(&extents->domains, number);
}

/* Makes an extent one of a domain's, which it stays until it is dropped. Returns 0; -1 without memory,
 * or when it is another domain's. */
static int join_domain(struct extents *extents, struct extent *extent, uint32_t number) {
    if (extent->domain != NULL) {
        return extent->domain->number == number ? 0 : -1;
    }
    struct extent_domain *domain = find_domain(extents, number);
    if (domain == NULL) {
        domain = extents->spare;
        struct extent_domain *next = domain == NULL ? NULL : domain->spare;
        if (domain == NULL && (domain = malloc(sizeof *domain)) == NULL) {
            return -1;
        }
        memset(domain, 0, sizeof *domain);
        domain->number = number;
        domain->spare = next;
        if (key_map_put(&extents->domains, number, domain)) {
            extents->spare = domain;
            return -1;
        }
        extents->spare = next;
        domain->spare = NULL;
    }
    domain->extents++;
    extent->domain = domain;
    return 0;
}

/* Takes an extent that is in no list out of its domain. One without extents is forgotten, its memory
 * kept for the next: they are no more than there have been at a time. */
static void leave_domain(struct extents *extents, struct extent *extent) {
    struct extent_domain *domain = extent->domain;
    extent->domain = NULL;
    if (domain != NULL && --domain->extents == 0 && domain != &extents->first) {
        key_map_remove(&extents->domains, domain->number);
        domain->spare = extents->spare;
        extents->spare = domain;
    }
}

/* Puts an extent in the list of a bucket, out of the one that it is in. */
static void put_in_list(struct extents *extents, uint32_t number, enum extent_list kind,
                        uint32_t bucket) {
    struct extent_link *link = &extents->array[number].links[kind];
    uint32_t *heads = kind == LIST_ALL_DEAD ? extents->all_dead
                                            : extents->array[number].domain->heads[kind];
    if (link->bucket == bucket) {
        return;
    }
    if (link->bucket != 0) {
        if (link->previous != 0) {
            extents->array[link->previous].links[kind].next = link->next;
        } else {
            heads[link->bucket] = link->next;
        }
        if (link->next != 0) {
            extents->array[link->next].links[kind].previous = link->previous;
        }
    }
    link->bucket = (uint16_t)bucket;
    link->previous = 0;
    link->next = 0;
    if (bucket != 0) {
        link->next = heads[bucket];
        if (link->next != 0) {
            extents->array[link->next].links[kind].previous = number;
        }
        heads[bucket] = number;
    }
}

/* Before an extent's numbers change: takes them out of the sums. enter() comes afterwards. */
static void withdraw(struct extents *extents, struct extent *extent) {
    if (extent->domain == NULL) {
        return; /* all zeros */
    }
    struct extent_sums *sums[] = {&extents->sums, &extent->domain->sums};
    for (unsigned i = 0; i < 2; i++) {
        if (extent->live_slots != 0) {
            sums[i]->live -= extent->live_bytes;
            sums[i]->dead -= extent->left_alone ? 0 : extent->end - extent->live_bytes;
            sums[i]->objects -= extent->live_slots;
        } else {
            sums[i]->emptied -= extent->end;
        }
    }
}

/* Adds an extent's numbers to the sums and puts it in the lists where it belongs. */
static void enter(struct extents *extents, struct extent *extent) {
    uint32_t number = (uint32_t)(extent - extents->array);
    uint32_t dead = extent->end - extent->live_bytes;
    uint32_t free_slots = EXTENT_SLOTS - extent->live_slots;
    int is_roomy = free_slots >= ROOMY_SLOTS;
    uint32_t room_bucket = 0;
    uint32_t dead_bucket = 0;
    struct extent_sums *sums[] = {&extents->sums, &extent->domain->sums};
    for (unsigned i = 0; i < 2; i++) {
        if (extent->live_slots != 0) {
            sums[i]->live += extent->live_bytes;
            sums[i]->dead += extent->left_alone ? 0 : dead;
            sums[i]->objects += extent->live_slots;
        } else {
            /* The next commit gives all of it back; to rewrite it would read dead bytes only. */
            sums[i]->emptied += extent->end;
        }
    }
    if (extent->live_slots != 0 && !extent->left_alone) {
        if (is_roomy && extent->end <= EXTENT_SIDE_BYTES - 16u * PAGE_BYTES) {
            room_bucket = free_slots;
        }
        if (!extent->flipped && dead != 0) {
            dead_bucket = 1u + (uint32_t)((uint64_t)dead * (DEAD_SHARES - 1u) / extent->end);
        }
    }
    put_in_list(extents, number, LIST_ROOM, room_bucket);
    put_in_list(extents, number, LIST_DEAD, is_roomy ? dead_bucket : 0);
    put_in_list(extents, number, LIST_ALL_DEAD, dead_bucket);
}

static void set_state(struct extents *extents, struct extent *extent, enum header_state state) {
    uint32_t number = (uint32_t)(extent - extents->array);
    extent->state = (uint8_t)state;
    if (state == HEADER_CLEAN) {
        number_set_remove(&extents->dirty, number);
    } else {
        number_set_add(&extents->dirty, number);
    }
}

int extents_grow(struct extents *extents, uint32_t count) {
    pthread_rwlock_wrlock(&extents->lock);
    int result = grow(extents, count);
    pthread_rwlock_unlock(&extents->lock);
    return result;
}

/* With the lock held. */
static enum read_status copy_record(const struct extents *extents, uint32_t id,
                                    struct object_snapshot *snapshot) {
    uint32_t number = id_extent(id);
    uint32_t slot = id_slot(id);
    if (number >= extents->count || !extents->array[number].in_use || slot < 1 ||
        slot > EXTENT_SLOTS) {
        return READ_NO_OBJECT;
    }
    struct extent *extent = &extents->array[number];
    if (extent->header == NULL) {
        return READ_HEADER_MISSING;
    }
    if (record_codec(&extent->header->records[slot]) == CODEC_NONE) {
        return READ_NO_OBJECT;
    }
    /* A lost update only costs a reload. */
    __atomic_store_n(&extent->touched, 1, __ATOMIC_RELAXED);
    snapshot->record = extent->header->records[slot];
    snapshot->id = id;
    snapshot->epoch = extent->epoch;
    snapshot->side = extent->header->prefix.generation & 1u;
    return READ_OK;
}

enum read_status extents_record(struct extents *extents, uint32_t id,
                                struct object_record *record) {
    struct object_snapshot snapshot;
    enum read_status status = extents_snapshot(extents, id, &snapshot);
    if (status == READ_OK) {
        *record = snapshot.record;
    }
    return status;
}

enum read_status extents_record_within(struct extents *extents, uint32_t domain, uint32_t id,
                                       struct object_record *record) {
    struct object_snapshot snapshot;
    pthread_rwlock_rdlock(&extents->lock);
    enum read_status status = READ_NO_OBJECT;
    uint32_t number = id_extent(id);
    if (number < extents->count && extents->array[number].domain != NULL &&
        extents->array[number].domain->number != domain) {
        __atomic_fetch_add(&extents->refused, 1, __ATOMIC_RELAXED);
    } else {
        status = copy_record(extents, id, &snapshot);
    }
    pthread_rwlock_unlock(&extents->lock);
    if (status == READ_OK && record_is_group(&snapshot.record)) {
        status = READ_NO_OBJECT; /* a hint of a former object with this id */
    }
    if (status == READ_OK) {
        *record = snapshot.record;
    }
    return status;
}

enum read_status extents_snapshot(struct extents *extents, uint32_t id,
                                  struct object_snapshot *snapshot) {
    pthread_rwlock_rdlock(&extents->lock);
    enum read_status status = copy_record(extents, id, snapshot);
    pthread_rwlock_unlock(&extents->lock);
    return status;
}

/* Whether the snapshot's payload is still where it was; with the lock held. A header that was dropped
 * from memory was as it is in the index. */
static int is_current(const struct extents *extents, const struct object_snapshot *snapshot) {
    const struct extent *extent = &extents->array[id_extent(snapshot->id)];
    if (extent->epoch != snapshot->epoch) {
        return 0;
    }
    if (extent->header == NULL) {
        return 1;
    }
    const struct object_record *now = &extent->header->records[id_slot(snapshot->id)];
    return record_codec(now) == record_codec(&snapshot->record) &&
           now->place == snapshot->record.place && now->base == snapshot->record.base;
}

static enum read_status read_payload(struct extents *extents,
                                     const struct object_snapshot *snapshot, uint8_t *payload,
                                     int *error) {
    off_t position =
        ((off_t)id_extent(snapshot->id) * 2 + (off_t)snapshot->side) * (off_t)EXTENT_SIDE_BYTES +
        (off_t)record_offset(&snapshot->record);
    size_t wanted = record_length(&snapshot->record);
    size_t have = 0;
    while (have < wanted) {
        ssize_t got = pread(extents->file, payload + have, wanted - have, position + (off_t)have);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            *error = errno;
            return READ_ERROR;
        }
        if (got == 0) {
            return READ_SHORT;
        }
        have += (size_t)got;
    }
    return READ_OK;
}

/* The payload of a snapshot (a member has none), and a snapshot of a patch's base or a member's group. One
 * and the same moment is certain for both: as long as the one is there, so is the other. */
static struct read_result fetch(struct extents *extents, const struct object_snapshot *snapshot,
                                uint8_t *payload, struct object_snapshot *base) {
    struct read_result result = {READ_OK, snapshot->id, 0, record_codec(&snapshot->record)};
    int is_member = record_is_member(&snapshot->record);
    if (!is_member) {
        result.status = read_payload(extents, snapshot, payload, &result.error);
    }
    pthread_rwlock_rdlock(&extents->lock);
    if (!is_current(extents, snapshot)) {
        result.status = READ_STALE;
    } else if (result.status == READ_OK && (is_member || codec_is_patch(result.codec))) {
        result.status = copy_record(extents, snapshot->record.base, base);
        if (result.status == READ_OK && record_is_group(&base->record) != is_member) {
            result.status = READ_NO_OBJECT;
        }
        if (result.status != READ_OK) {
            result.culprit = snapshot->record.base;
        }
    }
    pthread_rwlock_unlock(&extents->lock);
    if (result.status == READ_HEADER_MISSING) {
        result.culprit = id_extent(result.culprit);
    }
    return result;
}

/* What reading groups takes, kept with a context. */
struct group_reader {
    group_decoder *decoder;
    uint8_t payload[GROUP_BYTES_MOST];
    uint8_t pages[GROUP_BYTES_MOST];
};

static void free_group_reader(void *what) {
    group_decoder_free(((struct group_reader *)what)->decoder);
    free(what);
}

/* NULL without memory. */
static struct group_reader *group_reader_of(codec_context *context) {
    struct codec_companion *companion = codec_context_companion(context);
    if (companion->what == NULL) {
        struct group_reader *reader = malloc(sizeof *reader);
        if (reader == NULL) {
            return NULL;
        }
        reader->decoder = group_decoder_new();
        if (reader->decoder == NULL) {
            free(reader);
            return NULL;
        }
        companion->what = reader;
        companion->free = free_group_reader;
    }
    struct group_reader *reader = companion->what;
    group_decoder_use(reader->decoder, codec_context_for_groups(context));
    return reader;
}

static struct read_result read_member(struct extents *extents, codec_context *context,
                                      const struct object_snapshot *snapshot, uint8_t *page) {
    struct object_snapshot group;
    struct read_result result = fetch(extents, snapshot, NULL, &group);
    if (result.status != READ_OK) {
        return result;
    }
    struct group_key key = {group.id, group.epoch, group.record.place};
    uint32_t which = record_group_page(&snapshot->record);
    uint32_t count = record_members_made(&group.record);
    __atomic_fetch_add(&extents->members_read, 1, __ATOMIC_RELAXED);
    enum group_cache_answer known = group_cache_get(&extents->groups, key, which, page);
    if (known == GROUP_CACHE_HIT) {
        return result;
    }
    struct group_reader *reader = group_reader_of(context);
    if (reader == NULL || which >= count) {
        result.status = READ_DECODE;
        return result;
    }
    result.status = read_payload(extents, &group, reader->payload, &result.error);
    pthread_rwlock_rdlock(&extents->lock);
    if (!is_current(extents, &group)) {
        result.status = READ_STALE;
    }
    pthread_rwlock_unlock(&extents->lock);
    if (result.status != READ_OK) {
        return result;
    }
    /* Who comes a second time comes again: then all of it. */
    unsigned wanted = known == GROUP_CACHE_SHORT ? count : which + 1u;
    unsigned decoded =
        group_decode(reader->decoder, (enum codec)record_codec(&group.record), reader->payload,
                     record_length(&group.record), count, wanted, reader->pages);
    if (decoded <= which && wanted > which + 1u) { /* what lies before the damage is whole */
        decoded = group_decode(reader->decoder, (enum codec)record_codec(&group.record),
                               reader->payload, record_length(&group.record), count, which + 1u,
                               reader->pages);
    }
    if (decoded <= which) {
        result.status = READ_DECODE;
        return result;
    }
    __atomic_fetch_add(&extents->members_decoded, decoded, __ATOMIC_RELAXED);
    memcpy(page, reader->pages + (size_t)which * PAGE_BYTES, PAGE_BYTES);
    group_cache_put(&extents->groups, key, reader->pages, decoded);
    return result;
}

/* A base is verified only where its patch turns out wrong, which tells whose fault it is. */
static struct read_result read_to_depth(struct extents *extents, codec_context *context,
                                        const struct object_snapshot *snapshot, uint8_t *page,
                                        unsigned depth, int verify) {
    uint8_t payload[PAGE_BYTES];
    struct object_snapshot base;
    if (record_is_member(&snapshot->record)) {
        struct read_result of_member = read_member(extents, context, snapshot, page);
        if (of_member.status == READ_OK && verify &&
            (uint32_t)page_digest(page) != snapshot->record.digest) {
            of_member.status = READ_DIGEST;
        }
        return of_member;
    }
    if (record_is_group(&snapshot->record)) {
        return (struct read_result){READ_NO_OBJECT, snapshot->id, 0, CODEC_NONE};
    }
    struct read_result result = fetch(extents, snapshot, payload, &base);
    if (result.status != READ_OK) {
        return result;
    }
    uint8_t base_page[PAGE_BYTES];
    const uint8_t *base_bytes = NULL;
    if (codec_is_patch(result.codec)) {
        if (depth == MAXIMUM_DEPTH) {
            result.status = READ_DEPTH;
            return result;
        }
        struct read_result of_base =
            read_to_depth(extents, context, &base, base_page, depth + 1u, 0);
        if (of_base.status != READ_OK) {
            of_base.codec = result.codec;
            return of_base;
        }
        base_bytes = base_page;
    }
    if (codec_decode(context, (enum codec)result.codec, payload,
                     record_length(&snapshot->record), base_bytes, page)) {
        result.status = READ_DECODE;
    } else if (verify && (uint32_t)page_digest(page) != snapshot->record.digest) {
        result.status = READ_DIGEST;
    }
    if (result.status != READ_OK && base_bytes != NULL) {
        struct read_result of_base =
            read_to_depth(extents, context, &base, base_page, depth + 1u, 1);
        if (of_base.status != READ_OK) {
            of_base.codec = result.codec;
            return of_base;
        }
    }
    return result;
}

struct read_result extents_read_snapshot(struct extents *extents, codec_context *context,
                                         const struct object_snapshot *snapshot, uint8_t *page) {
    return read_to_depth(extents, context, snapshot, page, 0, 1);
}

struct read_result extents_read(struct extents *extents, codec_context *context, uint32_t id,
                                uint8_t *page) {
    struct read_result result = {READ_STALE, id, 0, CODEC_NONE};
    struct object_snapshot snapshot;
    /* It can only be moved, each time by one more commit: this ends. */
    while (result.status == READ_STALE) {
        result.status = extents_snapshot(extents, id, &snapshot);
        if (result.status == READ_HEADER_MISSING) {
            result.culprit = id_extent(id);
        }
        if (result.status == READ_OK) {
            result = extents_read_snapshot(extents, context, &snapshot, page);
        }
    }
    return result;
}

unsigned extents_depth(struct extents *extents, uint32_t id, unsigned limit) {
    struct object_record record;
    for (unsigned depth = 0; depth < limit; depth++) {
        if (extents_record(extents, id, &record) != READ_OK) {
            return limit;
        }
        if (!codec_is_patch(record_codec(&record))) {
            return depth;
        }
        id = record.base;
    }
    return limit;
}

enum header_verdict header_judge(const union extent_header *header) {
    if (header->prefix.end > EXTENT_SIDE_BYTES || header->prefix.used > EXTENT_SLOTS) {
        return HEADER_CONTRADICTS;
    }
    uint32_t live = 0;
    for (uint32_t slot = 1; slot <= EXTENT_SLOTS; slot++) {
        const struct object_record *record = &header->records[slot];
        if (record_codec(record) == CODEC_NONE) {
            continue;
        }
        if (record_codec(record) >= CODEC_COUNT) {
            return HEADER_UNKNOWN;
        }
        if (record_is_member(record)) {
            if (record_group_page(record) >= GROUP_PAGES_MOST || !id_is_object(record->base)) {
                return HEADER_CONTRADICTS;
            }
            continue;
        }
        if (record_is_group(record) &&
            (record_members_made(record) > GROUP_PAGES_MOST || record_members(record) == 0 ||
             record_members(record) > record_members_made(record))) {
            return HEADER_CONTRADICTS;
        }
        live += record_length(record);
        if (record_offset(record) + record_length(record) > header->prefix.end) {
            return HEADER_CONTRADICTS;
        }
    }
    return live <= header->prefix.end ? HEADER_SOUND : HEADER_CONTRADICTS;
}

void header_summarise(const union extent_header *header, struct extent_summary *summary) {
    memset(summary, 0, sizeof *summary);
    summary->generation = header->prefix.generation;
    summary->domain = header->prefix.domain;
    summary->end = header->prefix.end;
    for (uint32_t slot = 1; slot <= EXTENT_SLOTS; slot++) {
        const struct object_record *record = &header->records[slot];
        if (record_codec(record) != CODEC_NONE) {
            summary->live_bytes += record_length(record);
            summary->live_slots++;
        }
    }
}

int extents_account(struct extents *extents, uint32_t number,
                    const struct extent_summary *summary) {
    struct extent *extent = &extents->array[number];
    if (join_domain(extents, extent, summary->domain)) {
        return -1;
    }
    withdraw(extents, extent);
    extent->in_use = 1;
    number_set_remove(&extents->free, number);
    extent->generation = summary->generation;
    extent->end = summary->end;
    extent->live_bytes = summary->live_bytes;
    extent->live_slots = summary->live_slots;
    enter(extents, extent);
    return 0;
}

/* Adds an object to the totals, or takes it out (by -1, which wraps around). */
static void count_object(struct extents *extents, const struct object_record *record,
                         uint64_t by) {
    unsigned codec = record_codec(record);
    extents->totals.objects[codec] += by;
    extents->totals.bytes[codec] += by * record_length(record);
    if (record_is_group(record)) {
        extents->totals.page_references[codec] += by * record_members(record);
        extents->totals.pageless[codec] +=
            by * (record_members_made(record) - record_members(record));
    } else {
        extents->totals.page_references[codec] += by * record_page_references(record);
        extents->totals.pageless[codec] += by * (record_page_references(record) == 0);
    }
}

#define OUT ((uint64_t)-1)

void extents_count(struct extents *extents, const union extent_header *header) {
    for (uint32_t slot = 1; slot <= EXTENT_SLOTS; slot++) {
        if (record_codec(&header->records[slot]) != CODEC_NONE) {
            count_object(extents, &header->records[slot], 1);
        }
    }
}

static int load(struct extents *extents, uint32_t number, const union extent_header *header,
                enum header_state state, int rewritten) {
    if (grow(extents, number + 1u)) {
        return -1;
    }
    struct extent *extent = &extents->array[number];
    if (join_domain(extents, extent, header->prefix.domain)) {
        return -1;
    }
    if (extent->header == NULL) {
        extent->header = malloc(sizeof *extent->header);
        if (extent->header == NULL) {
            return -1;
        }
        number_set_add(&extents->loaded, number);
    }
    memcpy(extent->header, header, sizeof *header);
    withdraw(extents, extent);
    extent->in_use = 1;
    number_set_remove(&extents->free, number);
    extent->epoch += extent->generation != header->prefix.generation;
    extent->generation = header->prefix.generation;
    extent->end = header->prefix.end;
    extent->touched = 1;
    if (rewritten) {
        extent->flipped = 1;
        number_set_add(&extents->flipped, number);
    }
    enter(extents, extent);
    set_state(extents, extent, state);
    return 0;
}

int extents_load(struct extents *extents, uint32_t number, const union extent_header *header,
                 enum header_state state) {
    pthread_rwlock_wrlock(&extents->lock);
    int result = load(extents, number, header, state, 0);
    pthread_rwlock_unlock(&extents->lock);
    return result;
}

int extents_install(struct extents *extents, uint32_t number, const union extent_header *header,
                    int rewritten) {
    pthread_rwlock_wrlock(&extents->lock);
    int result = load(extents, number, header, HEADER_DIRTY, rewritten);
    pthread_rwlock_unlock(&extents->lock);
    return result;
}

void extents_begin_commit(struct extents *extents, uint32_t number) {
    set_state(extents, &extents->array[number], HEADER_COMMITTING);
}

void extents_end_commit(struct extents *extents, uint32_t number, int succeeded) {
    struct extent *extent = &extents->array[number];
    if (extent->state == HEADER_COMMITTING) {
        set_state(extents, extent, succeeded ? HEADER_CLEAN : HEADER_DIRTY);
    }
}

void extents_settle(struct extents *extents, uint32_t number) {
    struct extent *extent = &extents->array[number];
    withdraw(extents, extent);
    extent->flipped = 0;
    number_set_remove(&extents->flipped, number);
    enter(extents, extent);
}

void extents_trim(struct extents *extents, uint32_t limit) {
    pthread_rwlock_wrlock(&extents->lock);
    /* Two rounds: the first may only clear the marks. */
    uint64_t steps = 2u * (uint64_t)extents->loaded.count;
    while (extents->loaded.count > limit && extents->loaded.count > extents->dirty.count &&
           steps-- != 0) {
        uint32_t number = number_set_next(&extents->loaded, extents->hand);
        if (number == NUMBER_SET_NONE) {
            number = number_set_next(&extents->loaded, 0);
        }
        extents->hand = number + 1u;
        struct extent *extent = &extents->array[number];
        if (extent->state != HEADER_CLEAN) {
            continue;
        }
        if (extent->touched) {
            extent->touched = 0;
            continue;
        }
        free(extent->header);
        extent->header = NULL;
        number_set_remove(&extents->loaded, number);
    }
    pthread_rwlock_unlock(&extents->lock);
}

void extents_drop(struct extents *extents, uint32_t number) {
    pthread_rwlock_wrlock(&extents->lock);
    struct extent *extent = &extents->array[number];
    withdraw(extents, extent);
    for (unsigned kind = 0; kind < LIST_KINDS && extent->domain != NULL; kind++) {
        put_in_list(extents, number, (enum extent_list)kind, 0);
    }
    leave_domain(extents, extent);
    free(extent->header);
    uint32_t epoch = extent->epoch + 1u;
    memset(extent, 0, sizeof *extent);
    extent->epoch = epoch; /* whoever still reads there learns that it is gone */
    number_set_remove(&extents->loaded, number);
    number_set_remove(&extents->dirty, number);
    number_set_remove(&extents->flipped, number);
    if (number != 0) {
        number_set_add(&extents->free, number);
    }
    pthread_rwlock_unlock(&extents->lock);
}

static struct object_record *live_record(struct extents *extents, uint32_t id) {
    uint32_t number = id_extent(id);
    uint32_t slot = id_slot(id);
    if (number >= extents->count || slot < 1 || slot > EXTENT_SLOTS ||
        extents->array[number].header == NULL) {
        return NULL;
    }
    struct object_record *record = &extents->array[number].header->records[slot];
    return record_codec(record) == CODEC_NONE ? NULL : record;
}

void extents_added(struct extents *extents, uint32_t id) {
    const struct object_record *record = live_record(extents, id);
    if (record == NULL) {
        return;
    }
    /* Only counts change: nobody but the routing thread looks at them. */
    struct extent *extent = &extents->array[id_extent(id)];
    withdraw(extents, extent);
    extent->live_bytes += record_length(record);
    extent->live_slots++;
    enter(extents, extent);
    count_object(extents, record, 1);
}

/* One member more or less (by -1) of a group. Returns 0, or -1: it has all of them, or none. */
static int count_member(struct extents *extents, uint32_t id, struct object_record *group,
                        int by) {
    uint32_t members = record_members(group);
    if (by > 0 ? members == record_members_made(group) : members == 0) {
        return -1;
    }
    count_object(extents, group, OUT);
    pthread_rwlock_wrlock(&extents->lock);
    group->kind += (uint32_t)by << 14;
    pthread_rwlock_unlock(&extents->lock);
    count_object(extents, group, 1);
    set_state(extents, &extents->array[id_extent(id)], HEADER_DIRTY);
    return 0;
}

int extents_join(struct extents *extents, uint32_t id, uint32_t group_id, uint32_t page,
                 uint32_t *left) {
    struct object_record *record = live_record(extents, id);
    struct object_record *group = live_record(extents, group_id);
    if (record == NULL || group == NULL || !record_is_group(group) || record_is_group(record) ||
        page >= record_members_made(group) || count_member(extents, group_id, group, 1)) {
        return -1;
    }
    struct extent *extent = &extents->array[id_extent(id)];
    *left = record->base;
    withdraw(extents, extent);
    extent->live_bytes -= record_length(record);
    enter(extents, extent);
    count_object(extents, record, OUT);
    pthread_rwlock_wrlock(&extents->lock);
    record->kind = (record->kind & ~255u) | CODEC_MEMBER;
    record->place = page;
    record->base = group_id;
    pthread_rwlock_unlock(&extents->lock);
    count_object(extents, record, 1);
    set_state(extents, extent, HEADER_DIRTY);
    return 0;
}

void extents_note_refined(struct extents *extents, uint32_t number, uint8_t tier) {
    struct extent *extent = &extents->array[number];
    if (extent->header != NULL && extent->header->prefix.refined != tier) {
        extent->header->prefix.refined = tier; /* nobody else looks at it */
        set_state(extents, extent, HEADER_DIRTY);
    }
}

enum read_status extents_bytes_of(struct extents *extents, uint32_t id, double *bytes,
                                  uint32_t *pages, uint32_t *culprit) {
    struct object_record record;
    *culprit = id;
    enum read_status status = extents_record(extents, id, &record);
    *pages = status != READ_OK || record_is_group(&record) ? 0 : record_page_references(&record);
    if (status == READ_OK && record_is_member(&record)) {
        struct object_record group;
        *culprit = record.base;
        status = extents_record(extents, record.base, &group);
        if (status == READ_OK) {
            uint32_t members = record_members(&group);
            *bytes = (double)record_length(&group) / (double)(members == 0 ? 1 : members);
        }
    } else if (status == READ_OK) {
        *bytes = (double)record_length(&record);
    }
    return status;
}

int extents_reference(struct extents *extents, uint32_t id, int by_patch) {
    struct object_record *record = live_record(extents, id);
    if (record == NULL || record_is_group(record)) {
        return -1;
    }
    uint32_t pages = record_page_references(record);
    uint32_t patches = record_patch_references(record);
    unsigned codec = record_codec(record);
    if (by_patch ? patches == MAXIMUM_PATCH_REFERENCES : pages == MAXIMUM_PAGE_REFERENCES) {
        return -1;
    }
    if (by_patch) {
        patches++;
    } else {
        extents->totals.page_references[codec]++;
        extents->totals.pageless[codec] -= pages == 0;
        pages++;
    }
    pthread_rwlock_wrlock(&extents->lock);
    record_set_references(record, pages, patches);
    pthread_rwlock_unlock(&extents->lock);
    set_state(extents, &extents->array[id_extent(id)], HEADER_DIRTY);
    return 0;
}

static void remove_record(struct extents *extents, uint32_t id, struct object_record *record) {
    struct extent *extent = &extents->array[id_extent(id)];
    withdraw(extents, extent);
    extent->live_bytes -= record_length(record);
    extent->live_slots--;
    enter(extents, extent);
    set_state(extents, extent, HEADER_DIRTY);
    count_object(extents, record, OUT);
    pthread_rwlock_wrlock(&extents->lock);
    memset(record, 0, sizeof *record);
    pthread_rwlock_unlock(&extents->lock);
}

void extents_discard(struct extents *extents, uint32_t id) {
    struct object_record *record = live_record(extents, id);
    if (record != NULL && (record_is_group(record) ? record_members(record)
                                                   : record_references(record)) == 0) {
        remove_record(extents, id, record);
    }
}

int extents_release(struct extents *extents, uint32_t id, int by_patch,
                    struct release_result *result) {
    memset(result, 0, sizeof *result);
    struct object_record *record = live_record(extents, id);
    if (record == NULL) {
        return -1;
    }
    struct extent *extent = &extents->array[id_extent(id)];
    if (record_is_group(record)) {
        if (!by_patch || count_member(extents, id, record, -1)) {
            return -1;
        }
        if (record_members(record) == 0) {
            result->freed = 1;
            result->is_group = 1;
            result->domain = extent->domain->number;
            remove_record(extents, id, record);
        }
        return 0;
    }
    uint32_t pages = record_page_references(record);
    uint32_t patches = record_patch_references(record);
    unsigned codec = record_codec(record);
    if ((by_patch ? patches : pages) == 0) {
        return -1;
    }
    if (by_patch) {
        patches--;
    } else {
        pages--;
        extents->totals.page_references[codec]--;
        extents->totals.pageless[codec] += pages == 0;
    }
    set_state(extents, extent, HEADER_DIRTY);
    pthread_rwlock_wrlock(&extents->lock);
    record_set_references(record, pages, patches);
    pthread_rwlock_unlock(&extents->lock);
    if (pages != 0 || patches != 0) {
        return 0;
    }
    result->base = record->base;
    result->freed = 1;
    result->digest = record->digest;
    result->domain = extent->domain->number;
    remove_record(extents, id, record);
    return 0;
}

/* The first extent of the fullest bucket in [low, LIST_BUCKETS), or 0. */
static uint32_t first_of(const uint32_t *heads, uint32_t low) {
    for (uint32_t bucket = LIST_BUCKETS - 1u; bucket >= low; bucket--) {
        if (heads[bucket] != 0) {
            return heads[bucket];
        }
    }
    return 0;
}

static int has_many_dead(const struct extent_sums *sums, uint32_t dead_share_256) {
    return sums->dead * 256u > sums->live * dead_share_256;
}

enum choice_kind extents_choose(const struct extents *extents, uint32_t domain,
                                uint32_t dead_share_256, uint32_t *number) {
    const struct extent_domain *found = find_domain(extents, domain);
    *number = 0;
    if (found == NULL) {
        return CHOICE_NEW;
    }
    if (has_many_dead(&found->sums, dead_share_256)) {
        *number = first_of(found->heads[LIST_DEAD], 1);
        if (*number != 0) {
            return CHOICE_REWRITE;
        }
    }
    *number = first_of(found->heads[LIST_ROOM], ROOMY_SLOTS);
    return *number != 0 ? CHOICE_APPEND : CHOICE_NEW;
}

uint32_t extents_deadest(const struct extents *extents, uint32_t dead_share_256) {
    return has_many_dead(&extents->sums, dead_share_256) ? first_of(extents->all_dead, 1) : 0;
}

void extents_leave_alone(struct extents *extents, uint32_t number) {
    if (number < extents->count && extents->array[number].domain != NULL) {
        struct extent *extent = &extents->array[number];
        withdraw(extents, extent);
        extent->left_alone = 1;
        enter(extents, extent);
    }
}

void extents_tell_domain(struct extents *extents, uint32_t number, struct extent_domain *told) {
    memset(told, 0, sizeof *told);
    pthread_rwlock_rdlock(&extents->lock);
    struct extent_domain *domain = find_domain(extents, number);
    if (domain != NULL) {
        told->extents = domain->extents;
        told->sums = domain->sums;
        told->decoded = __atomic_load_n(&domain->decoded, __ATOMIC_RELAXED);
        told->decode_nanoseconds = __atomic_load_n(&domain->decode_nanoseconds, __ATOMIC_RELAXED);
    }
    pthread_rwlock_unlock(&extents->lock);
    told->number = number;
}

void extents_count_decoded(struct extents *extents, uint32_t id, uint64_t nanoseconds) {
    if (!extents->has_domains) {
        return;
    }
    uint32_t number = id_extent(id);
    pthread_rwlock_rdlock(&extents->lock);
    struct extent_domain *domain = number < extents->count ? extents->array[number].domain : NULL;
    if (domain != NULL && domain != &extents->first) {
        __atomic_fetch_add(&domain->decoded, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&domain->decode_nanoseconds, nanoseconds, __ATOMIC_RELAXED);
    }
    pthread_rwlock_unlock(&extents->lock);
}
