#include "extents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int extents_init(struct extents *extents) {
    memset(extents, 0, sizeof *extents);
    extents->file = -1;
    return pthread_rwlock_init(&extents->lock, NULL) == 0 ? 0 : -1;
}

void extents_free(struct extents *extents) {
    for (uint32_t number = 0; number < extents->count; number++) {
        free(extents->array[number].header);
    }
    free(extents->array);
    extents->array = NULL;
    pthread_rwlock_destroy(&extents->lock);
}

static int grow(struct extents *extents, uint32_t count) {
    if (count > extents->capacity) {
        uint32_t capacity = extents->capacity + extents->capacity / 2u;
        capacity = capacity < 64u ? 64u : capacity;
        capacity = capacity < count ? count : capacity;
        struct extent *array = realloc(extents->array, (size_t)capacity * sizeof *array);
        if (array == NULL) {
            return -1;
        }
        memset(array + extents->capacity, 0,
               (size_t)(capacity - extents->capacity) * sizeof *array);
        extents->array = array;
        extents->capacity = capacity;
    }
    if (count > extents->count) {
        extents->count = count;
    }
    return 0;
}

int extents_grow(struct extents *extents, uint32_t count) {
    pthread_rwlock_wrlock(&extents->lock);
    int result = grow(extents, count);
    pthread_rwlock_unlock(&extents->lock);
    return result;
}

enum read_status extents_record(struct extents *extents, uint32_t id, struct object_record *record,
                                uint32_t *side) {
    enum read_status status = READ_NO_OBJECT;
    uint32_t number = id_extent(id);
    uint32_t slot = id_slot(id);
    pthread_rwlock_rdlock(&extents->lock);
    if (number < extents->count && extents->array[number].in_use && slot >= 1 &&
        slot <= EXTENT_SLOTS) {
        const union extent_header *header = extents->array[number].header;
        if (header == NULL) {
            status = READ_HEADER_MISSING;
        } else if (record_codec(&header->records[slot]) != CODEC_NONE) {
            *record = header->records[slot];
            *side = header->prefix.side;
            extents->array[number].touched = 1; /* a lost update only costs a reload */
            status = READ_OK;
        }
    }
    pthread_rwlock_unlock(&extents->lock);
    return status;
}

static enum read_status read_payload(const struct extents *extents, uint32_t id,
                                     const struct object_record *record, uint32_t side,
                                     uint8_t *payload, int *error) {
    off_t position = ((off_t)id_extent(id) * 2 + (off_t)side) * (off_t)EXTENT_SIDE_BYTES +
                     (off_t)record_offset(record);
    size_t wanted = record_length(record);
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
    return payload_checksum(payload, wanted) == record->checksum ? READ_OK : READ_CHECKSUM;
}

static struct read_result fetch(struct extents *extents, uint32_t id, struct object_record *record,
                                uint8_t *payload) {
    struct read_result result = {READ_OK, id, 0, CODEC_NONE};
    uint32_t side = 0;
    result.status = extents_record(extents, id, record, &side);
    if (result.status == READ_HEADER_MISSING) {
        result.culprit = id_extent(id);
        return result;
    }
    if (result.status == READ_OK) {
        result.codec = record_codec(record);
        result.status = read_payload(extents, id, record, side, payload, &result.error);
    }
    if (result.status == READ_OK && codec_is_patch(result.codec) &&
        record_length(record) <= BASE_ID_BYTES) {
        result.status = READ_DECODE;
    }
    return result;
}

static uint32_t base_of(const uint8_t *payload) {
    uint32_t base;
    memcpy(&base, payload, BASE_ID_BYTES);
    return base;
}

static struct read_result read_to_depth(struct extents *extents, codec_context *context,
                                        uint32_t id, uint8_t *page, unsigned depth) {
    uint8_t payload[PAGE_BYTES];
    struct object_record record;
    struct read_result result = fetch(extents, id, &record, payload);
    if (result.status != READ_OK) {
        return result;
    }
    if (!codec_is_patch(result.codec)) {
        if (codec_decode(context, (enum codec)result.codec, payload, record_length(&record), NULL,
                         page)) {
            result.status = READ_DECODE;
        }
        return result;
    }
    if (depth == MAXIMUM_DEPTH) {
        result.status = READ_DEPTH;
        return result;
    }
    uint8_t base[PAGE_BYTES];
    struct read_result of_base =
        read_to_depth(extents, context, base_of(payload), base, depth + 1u);
    if (of_base.status != READ_OK) {
        of_base.codec = result.codec;
        return of_base;
    }
    if (codec_decode(context, (enum codec)result.codec, payload + BASE_ID_BYTES,
                     record_length(&record) - BASE_ID_BYTES, base, page)) {
        result.status = READ_DECODE;
    }
    return result;
}

struct read_result extents_read(struct extents *extents, codec_context *context, uint32_t id,
                                uint8_t *page) {
    return read_to_depth(extents, context, id, page, 0);
}

struct read_result extents_base(struct extents *extents, uint32_t id, uint32_t *base) {
    uint8_t payload[PAGE_BYTES];
    struct object_record record;
    uint32_t side;
    *base = 0;
    if (extents_record(extents, id, &record, &side) == READ_OK &&
        !codec_is_patch(record_codec(&record))) {
        struct read_result no_patch = {READ_OK, id, 0, record_codec(&record)};
        return no_patch; /* most objects: without touching the payload */
    }
    struct read_result result = fetch(extents, id, &record, payload);
    if (result.status == READ_OK && codec_is_patch(result.codec)) {
        *base = base_of(payload);
    }
    return result;
}

uint32_t header_checksum(const union extent_header *header) {
    return payload_checksum((const uint8_t *)header + sizeof header->prefix.checksum,
                            header_stored_bytes(header) - sizeof header->prefix.checksum);
}

int header_is_sound(const union extent_header *header) {
    if (header->prefix.end > EXTENT_SIDE_BYTES || header->prefix.side > 1 ||
        header->prefix.used > EXTENT_SLOTS || header->prefix.extent >> 24 != 0) {
        return 0;
    }
    uint32_t live = 0;
    for (uint32_t slot = 1; slot <= EXTENT_SLOTS; slot++) {
        const struct object_record *record = &header->records[slot];
        if (record_codec(record) == CODEC_NONE) {
            continue;
        }
        live += record_length(record);
        if (record_codec(record) >= CODEC_COUNT ||
            record_offset(record) + record_length(record) > header->prefix.end) {
            return 0;
        }
    }
    return live <= header->prefix.end;
}

void extents_account(struct extents *extents, const union extent_header *header) {
    struct extent *extent = &extents->array[header->prefix.extent];
    extent->in_use = 1;
    extent->side = header->prefix.side;
    extent->end = header->prefix.end;
    extent->live_bytes = 0;
    extent->live_slots = 0;
    for (uint32_t slot = 1; slot <= EXTENT_SLOTS; slot++) {
        const struct object_record *record = &header->records[slot];
        unsigned codec = record_codec(record);
        if (codec == CODEC_NONE || codec >= CODEC_COUNT) {
            continue;
        }
        extent->live_bytes += record_length(record);
        extent->live_slots++;
        extents->totals.objects[codec]++;
        extents->totals.bytes[codec] += record_length(record);
        extents->totals.page_references[codec] += record_page_references(record);
        extents->totals.pageless[codec] += record_page_references(record) == 0;
    }
}

int extents_load(struct extents *extents, uint32_t number, const union extent_header *header,
                 enum header_state state) {
    int result = -1;
    pthread_rwlock_wrlock(&extents->lock);
    if (grow(extents, number + 1u) == 0) {
        struct extent *extent = &extents->array[number];
        if (extent->header == NULL) {
            extent->header = malloc(sizeof *extent->header);
            extents->loaded += extent->header != NULL;
        }
        if (extent->header != NULL) {
            memcpy(extent->header, header, sizeof *header);
            extent->in_use = 1;
            extent->side = header->prefix.side;
            extent->end = header->prefix.end;
            extent->state = (uint8_t)state;
            extent->touched = 1;
            result = 0;
        }
    }
    pthread_rwlock_unlock(&extents->lock);
    return result;
}

void extents_trim(struct extents *extents, uint32_t limit) {
    pthread_rwlock_wrlock(&extents->lock);
    /* Two rounds: the first may only clear the marks. */
    uint64_t steps = 2u * (uint64_t)extents->count;
    while (extents->loaded > limit && steps-- != 0) {
        struct extent *extent = &extents->array[extents->hand];
        extents->hand = extents->hand + 1u == extents->count ? 0 : extents->hand + 1u;
        if (extent->header == NULL || extent->state != HEADER_CLEAN) {
            continue;
        }
        if (extent->touched) {
            extent->touched = 0;
            continue;
        }
        free(extent->header);
        extent->header = NULL;
        extents->loaded--;
    }
    pthread_rwlock_unlock(&extents->lock);
}

void extents_drop(struct extents *extents, uint32_t number) {
    pthread_rwlock_wrlock(&extents->lock);
    struct extent *extent = &extents->array[number];
    extents->loaded -= extent->header != NULL;
    free(extent->header);
    memset(extent, 0, sizeof *extent);
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
    return record_codec(record) == CODEC_NONE || record_codec(record) >= CODEC_COUNT ? NULL
                                                                                     : record;
}

void extents_added(struct extents *extents, uint32_t id) {
    const struct object_record *record = live_record(extents, id);
    if (record == NULL) {
        return;
    }
    struct extent *extent = &extents->array[id_extent(id)];
    unsigned codec = record_codec(record);
    extent->live_bytes += record_length(record);
    extent->live_slots++;
    extents->totals.objects[codec]++;
    extents->totals.bytes[codec] += record_length(record);
    extents->totals.pageless[codec]++;
}

int extents_reference(struct extents *extents, uint32_t id, int by_patch) {
    struct object_record *record = live_record(extents, id);
    if (record == NULL) {
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
    record_set_references(record, pages, patches);
    extents->array[id_extent(id)].state = HEADER_DIRTY;
    return 0;
}

static void remove_record(struct extents *extents, uint32_t id, struct object_record *record) {
    struct extent *extent = &extents->array[id_extent(id)];
    unsigned codec = record_codec(record);
    extent->live_bytes -= record_length(record);
    extent->live_slots--;
    extent->state = HEADER_DIRTY;
    extents->totals.objects[codec]--;
    extents->totals.bytes[codec] -= record_length(record);
    extents->totals.pageless[codec]--;
    memset(record, 0, sizeof *record);
}

void extents_discard(struct extents *extents, uint32_t id) {
    struct object_record *record = live_record(extents, id);
    if (record != NULL && record_references(record) == 0) {
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
    extent->state = HEADER_DIRTY;
    if (pages != 0 || patches != 0) {
        record_set_references(record, pages, patches);
        return 0;
    }
    if (codec_is_patch(codec)) {
        /* Only bytes whose checksum is right say which base loses a reference: with any other the
         * wrong object might be freed. One that keeps a reference too many does no harm. */
        uint8_t payload[PAGE_BYTES];
        int error = 0;
        if (record_length(record) > BASE_ID_BYTES &&
            read_payload(extents, id, record, extent->side, payload, &error) == READ_OK) {
            result->base = base_of(payload);
        }
    }
    result->freed = 1;
    result->digest = record->digest;
    remove_record(extents, id, record);
    return 0;
}

enum choice_kind extents_choose(const struct extents *extents, uint32_t dead_share_256,
                                uint32_t minimum_slots, uint32_t *number) {
    uint64_t live = 0;
    uint64_t dead = 0;
    uint32_t roomiest = 0, roomiest_slots = 0;
    uint32_t deadest = 0;
    uint64_t deadest_score = 0;
    for (uint32_t i = 0; i < extents->count; i++) {
        const struct extent *extent = &extents->array[i];
        if (!extent->in_use) {
            continue;
        }
        if (extent->live_slots == 0) {
            /* The next commit gives all of it back; to rewrite it would read dead bytes only. */
            continue;
        }
        uint32_t extent_dead = extent->end - extent->live_bytes;
        uint32_t free_slots = EXTENT_SLOTS - extent->live_slots;
        live += extent->live_bytes;
        dead += extent_dead;
        if (free_slots > roomiest_slots && free_slots >= minimum_slots &&
            extent->end <= EXTENT_SIDE_BYTES - 16u * PAGE_BYTES) {
            roomiest = i;
            roomiest_slots = free_slots;
        }
        if (!extent->flipped && free_slots >= minimum_slots && extent->end != 0) {
            uint64_t score = ((uint64_t)extent_dead << 16) / extent->end;
            if (score > deadest_score) {
                deadest = i;
                deadest_score = score;
            }
        }
    }
    if (deadest_score != 0 && dead * 256u > live * dead_share_256) {
        *number = deadest;
        return CHOICE_REWRITE;
    }
    if (roomiest_slots != 0) {
        *number = roomiest;
        return CHOICE_APPEND;
    }
    return CHOICE_NEW;
}
