#include "page.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bwt.h"

#define WORDS (PAGE_BYTES / 8u)
#define WINDOW_WORDS 4u
#define WINDOWS (WORDS - WINDOW_WORDS + 1u)

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

uint64_t value_binding(const uint8_t *identity, size_t identity_length, const uint8_t *value,
                       size_t length) {
    return XXH3_64bits_withSeed(value, length, XXH3_64bits(identity, identity_length));
}

/* Compiled once for AVX2 and once for any x86-64; elsewhere the compiler's baseline has to do. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif

/* One-permutation min-hash (Li, Owen, Zhang: One Permutation Hashing, NIPS 2012) over the windows
 * of 32 bytes at each multiple of 8. Each window's hash falls into one of four bins by its low
 * bits; the smallest of a bin is a feature. Windows of one repeated word are skipped: they are on
 * every page and say nothing. An empty bin gives no feature.
 *
 * All in 32 bits and without branches, so that it vectorises: a third of a microsecond a page. */
VECTORISED static void hash_windows(const uint8_t *page, uint32_t *hashes) {
    uint32_t halves[2u * WORDS];
    uint32_t mixed[WORDS];
    memcpy(halves, page, PAGE_BYTES);
    for (size_t i = 0; i < WORDS; i++) {
        uint32_t value = halves[2u * i] * UINT32_C(0x9e3779b1) +
                         halves[2u * i + 1u] * UINT32_C(0x85ebca77);
        mixed[i] = value ^ (value >> 15);
    }
    for (size_t i = 0; i < WINDOWS; i++) {
        uint32_t hash = mixed[i] * UINT32_C(0xc2b2ae3d) + mixed[i + 1u] * UINT32_C(0x27d4eb2f) +
                        mixed[i + 2u] * UINT32_C(0x165667b1) +
                        mixed[i + 3u] * UINT32_C(0xd3a2646d);
        hash ^= hash >> 15;
        hash *= UINT32_C(0x2c1b3c6d);
        hash ^= hash >> 12;
        uint32_t constant = (uint32_t)(mixed[i] == mixed[i + 1u]) &
                            (uint32_t)(mixed[i + 1u] == mixed[i + 2u]) &
                            (uint32_t)(mixed[i + 2u] == mixed[i + 3u]);
        hashes[i] = hash | (0u - constant);
    }
}

/* The smallest hash of each bin; UINT32_MAX where it is empty. */
VECTORISED static void bin_minima(const uint32_t *hashes, uint32_t *minima) {
    for (uint32_t bin = 0; bin < MAXIMUM_FEATURES; bin++) {
        uint32_t smallest = UINT32_MAX;
        for (size_t i = 0; i < WINDOWS; i++) {
            uint32_t hash = hashes[i] | (0u - (uint32_t)((hashes[i] & (MAXIMUM_FEATURES - 1u)) != bin));
            smallest = hash < smallest ? hash : smallest;
        }
        minima[bin] = smallest;
    }
}

static unsigned sketch_min_hash(const uint8_t *page, uint32_t *features) {
    uint32_t hashes[WINDOWS];
    uint32_t minima[MAXIMUM_FEATURES];
    hash_windows(page, hashes);
    bin_minima(hashes, minima);
    unsigned count = 0;
    for (uint32_t bin = 0; bin < MAXIMUM_FEATURES; bin++) {
        uint32_t smallest = minima[bin];
        if (smallest != UINT32_MAX) {
            /* Minima are small numbers; the tables want them spread. */
            smallest *= UINT32_C(0x9e3779b1);
            smallest ^= smallest >> 16;
            smallest *= UINT32_C(0x85ebca6b);
            features[count++] = smallest ^ (smallest >> 13);
        }
    }
    return count;
}

static size_t first_window(const uint32_t *hashes, uint32_t hash) {
    size_t i = 0;
    while (hashes[i] != hash) {
        i++;
    }
    return i;
}

size_t page_common_run(const uint8_t *page, const uint8_t *base) {
    uint32_t hashes[2][WINDOWS];
    uint32_t minima[2][MAXIMUM_FEATURES];
    size_t longest = 0;
    hash_windows(page, hashes[0]);
    hash_windows(base, hashes[1]);
    bin_minima(hashes[0], minima[0]);
    bin_minima(hashes[1], minima[1]);
    for (unsigned bin = 0; bin < MAXIMUM_FEATURES; bin++) {
        if (minima[0][bin] == UINT32_MAX || minima[0][bin] != minima[1][bin]) {
            continue;
        }
        size_t here = 8u * first_window(hashes[0], minima[0][bin]);
        size_t there = 8u * first_window(hashes[1], minima[1][bin]);
        size_t before = 0;
        while (before < here && before < there &&
               page[here - before - 1u] == base[there - before - 1u]) {
            before++;
        }
        size_t room = PAGE_BYTES - (here > there ? here : there);
        size_t behind = 0;
        while (behind < room && page[here + behind] == base[there + behind]) {
            behind++;
        }
        longest = before + behind > longest ? before + behind : longest;
    }
    return longest;
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

static unsigned sketch_transformed_blocks(const uint8_t *page, uint32_t *features) {
    uint8_t ranks[PAGE_BYTES];
    uint32_t workspace[BWT_WORKSPACE_WORDS(PAGE_BYTES)]; /* 100 KiB, touched by this sketch only */
    bwt_transform(page, PAGE_BYTES, ranks, workspace);
    mtf_encode(ranks, PAGE_BYTES);
    return sketch_fixed_blocks(ranks, features);
}

unsigned page_sketch(enum sketch_kind kind, const uint8_t *page, uint32_t *features) {
    switch (kind) {
    case SKETCH_MIN_HASH:
        return sketch_min_hash(page, features);
    case SKETCH_FIXED_BLOCKS:
        return sketch_fixed_blocks(page, features);
    case SKETCH_TRANSFORMED_BLOCKS:
        return sketch_transformed_blocks(page, features);
    case SKETCH_NONE:
        break;
    }
    return 0;
}
