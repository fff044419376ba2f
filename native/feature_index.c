#include "feature_index.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 1024u

static size_t slot_words(const struct feature_index *index) { return 1u + index->kept; }

/* The slot of a feature, or the free one where it would be. */
static uint32_t *slot_of(const struct feature_index *index, uint32_t feature) {
    size_t place = (feature * UINT64_C(0x9e3779b97f4a7c15)) >> 32;
    for (;; place++) {
        uint32_t *slot = index->slots + (place & index->mask) * slot_words(index);
        if (slot[0] == 0 || slot[0] == feature) {
            return slot;
        }
    }
}

int feature_index_make(struct feature_index *index, unsigned kept, int newest) {
    memset(index, 0, sizeof *index);
    index->kept = kept;
    index->newest = newest;
    index->mask = FIRST_SLOTS - 1u;
    index->slots = calloc(FIRST_SLOTS, slot_words(index) * sizeof *index->slots);
    return index->slots == NULL ? -1 : 0;
}

void feature_index_free(struct feature_index *index) {
    free(index->slots);
    index->slots = NULL;
}

static int grow(struct feature_index *index) {
    struct feature_index larger = *index;
    size_t words = slot_words(index);
    larger.mask = 2u * index->mask + 1u;
    larger.slots = calloc(larger.mask + 1u, words * sizeof *larger.slots);
    if (larger.slots == NULL) {
        return -1;
    }
    for (size_t i = 0; i <= index->mask; i++) {
        const uint32_t *slot = index->slots + i * words;
        if (slot[0] != 0) {
            memcpy(slot_of(&larger, slot[0]), slot, words * sizeof *slot);
        }
    }
    free(index->slots);
    *index = larger;
    return 0;
}

int feature_index_put(struct feature_index *index, const uint32_t *features, unsigned count,
                      uint32_t number) {
    for (unsigned f = 0; f < count; f++) {
        if (features[f] == 0) {
            continue;
        }
        if (3u * (index->features + 1u) > 2u * (index->mask + 1u) && grow(index) != 0) {
            return -1;
        }
        uint32_t *slot = slot_of(index, features[f]);
        unsigned held = 0;
        if (slot[0] == 0) {
            slot[0] = features[f];
            index->features++;
        }
        while (held < index->kept && slot[1u + held] != 0) {
            held++;
        }
        if (held == index->kept && !index->newest) {
            continue;
        }
        if (index->newest) {
            memmove(slot + 2, slot + 1, (held < index->kept ? held : held - 1u) * sizeof *slot);
            slot[1] = number + 1u;
        } else {
            slot[1u + held] = number + 1u;
        }
        index->pages += held < index->kept;
    }
    return 0;
}

unsigned feature_index_find(const struct feature_index *index, const uint32_t *features,
                            unsigned count, unsigned limit, uint32_t *numbers) {
    uint32_t met[FEATURES_MOST * PAGES_KEPT_MOST];
    uint8_t votes[FEATURES_MOST * PAGES_KEPT_MOST];
    unsigned distinct = 0;
    for (unsigned f = 0; f < count; f++) {
        if (features[f] == 0) {
            continue;
        }
        const uint32_t *slot = slot_of(index, features[f]);
        for (unsigned i = 1; i <= index->kept && slot[i] != 0; i++) {
            unsigned k = 0;
            while (k < distinct && met[k] != slot[i]) {
                k++;
            }
            if (k == distinct) {
                met[distinct] = slot[i];
                votes[distinct++] = 0;
            }
            votes[k]++;
        }
    }
    unsigned found = 0;
    for (; found < limit; found++) {
        unsigned best = distinct;
        for (unsigned k = 0; k < distinct; k++) {
            if (votes[k] != 0 && (best == distinct || votes[k] > votes[best])) {
                best = k;
            }
        }
        if (best == distinct) {
            break;
        }
        numbers[found] = met[best] - 1u;
        votes[best] = 0;
    }
    return found;
}
