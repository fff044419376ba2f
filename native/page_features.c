#include "page_features.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define PAGE_WORDS (FEATURE_PAGE_BYTES / 8u)

/* Compiled once for AVX2 and once for any x86-64; elsewhere the compiler's baseline has to do. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif

static uint32_t as_feature(uint64_t hash) {
    uint32_t feature = (uint32_t)hash;
    return feature == 0 ? 1 : feature;
}

/* -------------------------------------------------------------------------------- fixed blocks */

void block_keys(const uint8_t *page, const uint32_t *places, unsigned keys, unsigned blocks,
                uint32_t *features) {
    uint8_t joined[KEY_BLOCKS_MOST * KEY_BLOCK_BYTES];
    for (unsigned key = 0; key < keys; key++) {
        for (unsigned block = 0; block < blocks; block++) {
            memcpy(joined + block * KEY_BLOCK_BYTES, page + *places++, KEY_BLOCK_BYTES);
        }
        features[key] = as_feature(XXH3_64bits_withSeed(joined, blocks * KEY_BLOCK_BYTES, key));
    }
}

/* ------------------------------------------------------------------------------ super-features */

#define DEGREE 63u
#define RESIDUE (((uint64_t)1 << DEGREE) - 1u)

/* value * x modulo the polynomial */
static uint64_t times_x(uint64_t value) {
    value <<= 1;
    return value >> DEGREE ? value ^ RABIN_POLYNOMIAL : value;
}

/* polynomial (of degree below 8) * x^power modulo the polynomial */
static uint64_t shifted(uint64_t polynomial, unsigned power) {
    while (power-- > 0) {
        polynomial = times_x(polynomial);
    }
    return polynomial;
}

uint64_t splitmix64(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void super_features_prepare(struct super_features *tables) {
    uint64_t state = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        tables->rabin_append[byte] = shifted(byte, DEGREE);
        tables->rabin_remove[byte] = shifted(byte, 8u * (RABIN_WINDOW - 1u));
        tables->gear[byte] = splitmix64(&state);
    }
    for (unsigned i = 0; i < TRANSFORMS; i++) {
        tables->factors[i] = (uint32_t)splitmix64(&state) | 1u;
        tables->summands[i] = (uint32_t)splitmix64(&state);
        tables->gear_factors[i] = splitmix64(&state) | 1u;
        tables->gear_summands[i] = splitmix64(&state);
    }
}

static uint64_t append(const struct super_features *tables, uint64_t fingerprint, uint8_t byte) {
    uint64_t above = fingerprint >> (DEGREE - 8u);
    return (((fingerprint << 8) | byte) & RESIDUE) ^ tables->rabin_append[above];
}

void rabin_fingerprints(const struct super_features *tables, const uint8_t *page,
                        uint64_t *fingerprints) {
    uint64_t fingerprint = 0;
    for (unsigned i = 0; i < RABIN_WINDOW; i++) {
        fingerprint = append(tables, fingerprint, page[i]);
    }
    fingerprints[0] = fingerprint;
    for (unsigned i = 1; i < RABIN_WINDOWS; i++) {
        fingerprint ^= tables->rabin_remove[page[i - 1u]];
        fingerprint = append(tables, fingerprint, page[i + RABIN_WINDOW - 1u]);
        fingerprints[i] = fingerprint;
    }
}

static void group(const uint64_t *values, unsigned count, unsigned grouped, uint32_t *features) {
    for (unsigned i = 0; i < count / grouped; i++) {
        features[i] = as_feature(XXH3_64bits_withSeed(values + i * grouped, 8u * grouped, i));
    }
}

VECTORISED static void largest_transforms(const struct super_features *tables,
                                          const uint32_t *values, uint64_t *maxima) {
    for (unsigned t = 0; t < TRANSFORMS; t++) {
        uint32_t factor = tables->factors[t], summand = tables->summands[t];
        uint32_t maximum = 0;
        for (unsigned i = 0; i < RABIN_WINDOWS; i++) {
            uint32_t value = factor * values[i] + summand;
            maximum = value > maximum ? value : maximum;
        }
        maxima[t] = maximum;
    }
}

void ntransform_features(const struct super_features *tables, const uint8_t *page,
                         unsigned grouped, uint32_t *features) {
    uint64_t fingerprints[RABIN_WINDOWS];
    uint32_t low[RABIN_WINDOWS];
    uint64_t maxima[TRANSFORMS];
    rabin_fingerprints(tables, page, fingerprints);
    for (unsigned i = 0; i < RABIN_WINDOWS; i++) {
        low[i] = (uint32_t)fingerprints[i];
    }
    largest_transforms(tables, low, maxima);
    group(maxima, TRANSFORMS, grouped, features);
}

void odess_features(const struct super_features *tables, const uint8_t *page, unsigned grouped,
                    uint32_t *features) {
    uint64_t maxima[TRANSFORMS] = {0};
    uint64_t hash = 0;
    unsigned sampled = 0;
    for (unsigned i = 0; i < FEATURE_PAGE_BYTES; i++) {
        hash = (hash << 1) + tables->gear[page[i]];
        if ((hash & ODESS_MASK) != 0) {
            continue;
        }
        sampled++;
        for (unsigned t = 0; t < TRANSFORMS; t++) {
            uint64_t value = tables->gear_factors[t] * hash + tables->gear_summands[t];
            maxima[t] = value > maxima[t] ? value : maxima[t];
        }
    }
    if (sampled == 0) {
        memset(features, 0, TRANSFORMS / grouped * sizeof *features);
    } else {
        group(maxima, TRANSFORMS, grouped, features);
    }
}

#define FINESSE_GROUP 3u
#define FINESSE_GROUPS (TRANSFORMS / FINESSE_GROUP)

void finesse_features(const struct super_features *tables, const uint8_t *page,
                      uint32_t *features) {
    uint64_t fingerprints[RABIN_WINDOWS];
    uint64_t ranked[FINESSE_GROUP][FINESSE_GROUPS];
    rabin_fingerprints(tables, page, fingerprints);
    for (unsigned g = 0; g < FINESSE_GROUPS; g++) {
        for (unsigned member = 0; member < FINESSE_GROUP; member++) {
            unsigned part = g * FINESSE_GROUP + member;
            unsigned end = (part + 1u) * FEATURE_PAGE_BYTES / TRANSFORMS - RABIN_WINDOW;
            uint64_t maximum = 0;
            for (unsigned i = part * FEATURE_PAGE_BYTES / TRANSFORMS; i <= end; i++) {
                maximum = fingerprints[i] > maximum ? fingerprints[i] : maximum;
            }
            /* into its place among those of the group, largest first */
            unsigned rank = member;
            for (; rank > 0 && ranked[rank - 1u][g] < maximum; rank--) {
                ranked[rank][g] = ranked[rank - 1u][g];
            }
            ranked[rank][g] = maximum;
        }
    }
    group(ranked[0], TRANSFORMS, FINESSE_GROUPS, features);
}

/* ------------------------------------------------------------------------------------ min-hash */

static const uint64_t window_factors[MIN_HASH_WORDS_MOST] = {
    UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xc2b2ae3d27d4eb4f), UINT64_C(0x165667b19e3779f9),
    UINT64_C(0xd6e8feb86659fd93)};

static uint64_t mixed(uint64_t word) {
    word *= UINT64_C(0xbf58476d1ce4e5b9);
    return word ^ (word >> 32);
}

/* Inlined for each number of words, so that the inner loop is unrolled. */
static inline __attribute__((always_inline)) void hashes_of(const uint8_t *page, unsigned words,
                                                            uint64_t *hashes) {
    uint64_t plain[PAGE_WORDS];
    uint64_t values[PAGE_WORDS];
    memcpy(plain, page, FEATURE_PAGE_BYTES);
    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        values[i] = mixed(plain[i]);
    }
    for (unsigned i = 0; i + words <= PAGE_WORDS; i++) {
        uint64_t hash = 0;
        uint64_t differing = 0;
        for (unsigned k = 0; k < words; k++) {
            hash += values[i + k] * window_factors[k];
            differing |= plain[i + k] ^ plain[i];
        }
        if (words == 1) {
            differing = plain[i] ^ (plain[i] & 0xffu) * UINT64_C(0x0101010101010101);
        }
        hash ^= hash >> 32;
        hash *= UINT64_C(0x94d049bb133111eb);
        hash ^= hash >> 29;
        hashes[i] = differing == 0 ? 0 : hash == 0 ? 1 : hash;
    }
}

void window_hashes(const uint8_t *page, unsigned words, uint64_t *hashes) {
    switch (words) {
    case 1:
        hashes_of(page, 1, hashes);
        break;
    case 2:
        hashes_of(page, 2, hashes);
        break;
    case 3:
        hashes_of(page, 3, hashes);
        break;
    default:
        hashes_of(page, MIN_HASH_WORDS_MOST, hashes);
    }
}

void min_hash_features(const uint8_t *page, unsigned words, unsigned bins, uint32_t *features) {
    uint64_t hashes[PAGE_WORDS];
    uint64_t smallest[MIN_HASH_BINS_MOST];
    window_hashes(page, words, hashes);
    memset(smallest, 0xff, bins * sizeof *smallest);
    for (unsigned i = 0; i + words <= PAGE_WORDS; i++) {
        uint64_t *bin = &smallest[hashes[i] & (bins - 1u)];
        if (hashes[i] != 0 && hashes[i] < *bin) {
            *bin = hashes[i];
        }
    }
    for (unsigned bin = 0; bin < bins; bin++) {
        /* minima are small numbers: spread them */
        features[bin] = smallest[bin] == UINT64_MAX
                            ? 0
                            : as_feature((smallest[bin] * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
    }
}
