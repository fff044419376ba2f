#include "page.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define WORDS (PAGE_BYTES / 8u)
#define WINDOW_WORDS 4u

int page_is_same_filled(const uint8_t *page, uint64_t *word) {
    /* A page that equals itself shifted by a word repeats that word; memcmp stops at the first
     * difference, so ordinary pages cost a few nanoseconds. */
    memcpy(word, page, 8);
    return memcmp(page, page + 8, PAGE_BYTES - 8) == 0;
}

uint64_t page_digest(const uint8_t *page) { return XXH3_64bits(page, PAGE_BYTES); }

uint32_t payload_checksum(const uint8_t *payload, size_t length) {
    return (uint32_t)XXH3_64bits(payload, length);
}

static inline uint64_t rotate_left(uint64_t value, unsigned bits) {
    return (value << bits) | (value >> (64u - bits));
}

static inline uint64_t finish(uint64_t value) {
    value ^= value >> 32;
    value *= UINT64_C(0xd6e8feb86659fd93);
    value ^= value >> 32;
    return value;
}

/* One-permutation min-hash (Li, Owen, Zhang: One Permutation Hashing, NIPS 2012) over the windows
 * of 32 bytes at each multiple of 8. Each window's hash falls into one of four bins; the smallest
 * of a bin is a feature. Windows of one repeated word are skipped: they are on every page and say
 * nothing. An empty bin gives no feature. */
static unsigned sketch_min_hash(const uint8_t *page, uint32_t *features) {
    uint64_t words[WORDS];
    uint64_t mixed[WORDS];
    uint64_t smallest[MAXIMUM_FEATURES] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    memcpy(words, page, PAGE_BYTES);
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t value = words[i] * UINT64_C(0x9e3779b97f4a7c15);
        mixed[i] = value ^ (value >> 29);
    }
    for (size_t i = 0; i + WINDOW_WORDS <= WORDS; i++) {
        uint64_t hash = mixed[i] + rotate_left(mixed[i + 1], 13) + rotate_left(mixed[i + 2], 29) +
                        rotate_left(mixed[i + 3], 47);
        hash *= UINT64_C(0xbf58476d1ce4e5b9);
        hash ^= hash >> 31;
        int constant = (words[i] == words[i + 1]) & (words[i + 1] == words[i + 2]) &
                       (words[i + 2] == words[i + 3]);
        unsigned bin = (unsigned)(hash & (MAXIMUM_FEATURES - 1u));
        if (hash < smallest[bin] && !constant) {
            smallest[bin] = hash;
        }
    }
    unsigned count = 0;
    for (unsigned bin = 0; bin < MAXIMUM_FEATURES; bin++) {
        if (smallest[bin] != UINT64_MAX) {
            features[count++] = (uint32_t)finish(smallest[bin]);
        }
    }
    return count;
}

/* Difference Engine, section 4.2: HashSimilarityDetector(2,1), two 64-byte blocks at positions
 * fixed for all pages. The positions are ours (the paper draws them at random once). */
static const size_t fixed_block_offsets[2] = {1088u, 2880u};

static unsigned sketch_fixed_blocks(const uint8_t *page, uint32_t *features) {
    for (unsigned key = 0; key < 2; key++) {
        features[key] = (uint32_t)XXH3_64bits_withSeed(page + fixed_block_offsets[key], 64, key);
    }
    return 2;
}

unsigned page_sketch(enum sketch_kind kind, const uint8_t *page, uint32_t *features) {
    switch (kind) {
    case SKETCH_MIN_HASH:
        return sketch_min_hash(page, features);
    case SKETCH_FIXED_BLOCKS:
        return sketch_fixed_blocks(page, features);
    case SKETCH_NONE:
        break;
    }
    return 0;
}
