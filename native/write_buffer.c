#define _GNU_SOURCE
#include "write_buffer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "page.h"

int write_buffer_init(struct write_buffer *buffer, uint8_t *memory, uint32_t count) {
    memset(buffer, 0, sizeof *buffer);
    buffer->slots = calloc((size_t)count + 1u, sizeof *buffer->slots);
    buffer->memory = memory;
    buffer->count = buffer->available = count;
    buffer->free = buffer->oldest = buffer->newest = NO_SLOT;
    /* So that no page is without a place in a map when memory is short. */
    if (buffer->slots == NULL || key_map_reserve(&buffer->waiting, count) ||
        key_map_reserve(&buffer->routing, count)) {
        write_buffer_free(buffer);
        return -1;
    }
    return 0;
}

void write_buffer_free(struct write_buffer *buffer) {
    free(buffer->slots);
    buffer->slots = NULL;
    key_map_free(&buffer->waiting);
    key_map_free(&buffer->routing);
    key_map_free(&buffer->pages);
}

static uint32_t slot_in(const struct key_map *map, uint64_t key) {
    uintptr_t stored = (uintptr_t)key_map_get(map, key);
    return stored == 0 ? NO_SLOT : (uint32_t)(stored - 1u);
}

/* Cannot fail: there is room for every slot. */
static void keep(struct key_map *map, uint64_t key, uint32_t slot) {
    key_map_put(map, key, (void *)((uintptr_t)slot + 1u));
}

uint32_t write_buffer_waiting(const struct write_buffer *buffer, uint64_t key) {
    return slot_in(&buffer->waiting, key);
}

uint32_t write_buffer_routing(const struct write_buffer *buffer, uint64_t key) {
    return slot_in(&buffer->routing, key);
}

uint32_t write_buffer_slot(const struct write_buffer *buffer, uint64_t key) {
    uint32_t slot = slot_in(&buffer->waiting, key);
    return slot != NO_SLOT ? slot : slot_in(&buffer->routing, key);
}

uint64_t write_buffer_pages(const struct write_buffer *buffer, uint32_t volume) {
    uintptr_t stored = (uintptr_t)key_map_get(&buffer->pages, volume);
    return stored == 0 ? 0 : stored - 1u;
}

/* Fails only for a volume that was not counted before. */
static int count(struct write_buffer *buffer, uint64_t key, int64_t change) {
    uint64_t pages = write_buffer_pages(buffer, (uint32_t)(key >> 32)) + (uint64_t)change;
    if (pages == 0) {
        key_map_remove(&buffer->pages, key >> 32);
        return 0;
    }
    return key_map_put(&buffer->pages, key >> 32, (void *)(uintptr_t)(pages + 1u));
}

static void link_newest(struct write_buffer *buffer, uint32_t slot) {
    struct buffer_slot *s = &buffer->slots[slot];
    s->older = buffer->newest;
    s->newer = NO_SLOT;
    if (buffer->newest == NO_SLOT) {
        buffer->oldest = slot;
    } else {
        buffer->slots[buffer->newest].newer = slot;
    }
    buffer->newest = slot;
}

static void link_oldest(struct write_buffer *buffer, uint32_t slot) {
    struct buffer_slot *s = &buffer->slots[slot];
    s->older = NO_SLOT;
    s->newer = buffer->oldest;
    if (buffer->oldest == NO_SLOT) {
        buffer->newest = slot;
    } else {
        buffer->slots[buffer->oldest].older = slot;
    }
    buffer->oldest = slot;
}

static void unlink_slot(struct write_buffer *buffer, uint32_t slot) {
    struct buffer_slot *s = &buffer->slots[slot];
    if (s->older == NO_SLOT) {
        buffer->oldest = s->newer;
    } else {
        buffer->slots[s->older].newer = s->newer;
    }
    if (s->newer == NO_SLOT) {
        buffer->newest = s->older;
    } else {
        buffer->slots[s->newer].older = s->older;
    }
}

/* One of those available; rather one that was in use before, so that memory is touched late. */
static uint32_t take_slot(struct write_buffer *buffer) {
    uint32_t slot = buffer->free;
    if (slot != NO_SLOT) {
        buffer->free = buffer->slots[slot].newer;
        buffer->emptied -= buffer->slots[slot].key == KEY_EMPTY;
    } else {
        slot = buffer->untouched++;
    }
    buffer->available--;
    return slot;
}

static void free_slot(struct write_buffer *buffer, uint32_t slot) {
    buffer->slots[slot].key = KEY_FREE;
    buffer->slots[slot].newer = buffer->free;
    buffer->free = slot;
    buffer->available++;
}

int write_buffer_put(struct write_buffer *buffer, uint64_t key, const uint8_t *page,
                     uint64_t tick) {
    uint32_t slot = write_buffer_waiting(buffer, key);
    if (slot != NO_SLOT) {
        unlink_slot(buffer, slot);
    } else {
        if (!write_buffer_has_room(buffer, (uint32_t)(key >> 32), 1) || count(buffer, key, 1)) {
            return -1;
        }
        slot = take_slot(buffer);
        keep(&buffer->waiting, key, slot);
        buffer->slots[slot].key = key;
    }
    memcpy(write_buffer_page(buffer, slot), page, PAGE_BYTES);
    buffer->slots[slot].tick = tick;
    link_newest(buffer, slot);
    return 0;
}

int write_buffer_write(struct write_buffer *buffer, uint64_t key, size_t start, const uint8_t *data,
                       size_t length, uint64_t tick) {
    uint32_t slot = write_buffer_waiting(buffer, key);
    if (slot == NO_SLOT) {
        return 0;
    }
    memcpy(write_buffer_page(buffer, slot) + start, data, length);
    buffer->slots[slot].tick = tick;
    unlink_slot(buffer, slot);
    link_newest(buffer, slot);
    return 1;
}

unsigned write_buffer_forget(struct write_buffer *buffer, uint64_t key) {
    unsigned freed = 0;
    uint32_t slot = write_buffer_waiting(buffer, key);
    if (slot != NO_SLOT) {
        key_map_remove(&buffer->waiting, key);
        unlink_slot(buffer, slot);
        free_slot(buffer, slot);
        count(buffer, key, -1);
        freed = 1;
    }
    if (key_map_remove(&buffer->routing, key) != NULL) {
        count(buffer, key, -1);
    }
    return freed;
}

size_t write_buffer_oldest(const struct write_buffer *buffer, size_t most, uint64_t latest,
                           uint64_t *keys) {
    size_t found = 0;
    for (uint32_t slot = buffer->oldest;
         slot != NO_SLOT && found < most && buffer->slots[slot].tick <= latest;
         slot = buffer->slots[slot].newer) {
        keys[found++] = buffer->slots[slot].key;
    }
    return found;
}

uint32_t write_buffer_begin(struct write_buffer *buffer, uint64_t key) {
    uint32_t slot = write_buffer_waiting(buffer, key);
    if (slot == NO_SLOT) {
        return NO_SLOT;
    }
    keep(&buffer->routing, key, slot);
    key_map_remove(&buffer->waiting, key);
    unlink_slot(buffer, slot);
    return slot;
}

int write_buffer_finish(struct write_buffer *buffer, uint64_t key, uint32_t slot) {
    int wanted = write_buffer_routing(buffer, key) == slot;
    if (wanted) {
        key_map_remove(&buffer->routing, key);
        count(buffer, key, -1);
    }
    free_slot(buffer, slot);
    return wanted;
}

void write_buffer_put_back(struct write_buffer *buffer, uint64_t key, uint32_t slot) {
    if (write_buffer_routing(buffer, key) != slot) {
        free_slot(buffer, slot); /* dropped meanwhile */
        return;
    }
    if (write_buffer_waiting(buffer, key) != NO_SLOT) { /* written again meanwhile */
        key_map_remove(&buffer->routing, key);
        count(buffer, key, -1);
        free_slot(buffer, slot);
        return;
    }
    key_map_remove(&buffer->routing, key);
    keep(&buffer->waiting, key, slot);
    link_oldest(buffer, slot);
}

/* A slot without memory is used as any other: what is put there is a whole page. */
uint32_t write_buffer_give_back(struct write_buffer *buffer, uint32_t first, uint32_t count) {
    const uint32_t end = count < buffer->count - first ? first + count : buffer->count;
    uint32_t given = 0;
    for (uint32_t slot = first; slot < end;) {
        uint32_t run = 0;
        while (slot + run < end && buffer->slots[slot + run].key == KEY_IDLE) {
            run++;
        }
        if (run == 0) {
            if (buffer->slots[slot].key == KEY_FREE) {
                buffer->slots[slot].key = KEY_IDLE;
            }
            slot++;
            continue;
        }
        if (madvise(write_buffer_page(buffer, slot), (size_t)run * PAGE_BYTES, MADV_REMOVE) == 0) {
            for (uint32_t i = slot; i < slot + run; i++) {
                buffer->slots[i].key = KEY_EMPTY;
            }
            buffer->emptied += run;
            given += run;
        }
        slot += run;
    }
    return given;
}
