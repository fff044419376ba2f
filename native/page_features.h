/* Features by which published detectors find similar pages; only the study compares them.
 *
 * A feature is 32 bits, never 0: 0 stands for one that a page does not have. Pages resemble each
 * other by the features at the same place. All functions are reentrant.
 */
#ifndef DIFFFS_PAGE_FEATURES_H
#define DIFFFS_PAGE_FEATURES_H

#include <stddef.h>
#include <stdint.h>

#define FEATURE_PAGE_BYTES 4096u

/* ---- Blocks at fixed places: Difference Engine (OSDI '08, section 4.2) */

#define KEY_BLOCK_BYTES 64u
#define KEY_BLOCKS_MOST 8u

/* HashSimilarityDetector(keys, blocks): each key is the hash of `blocks` blocks of 64 bytes, at the
 * next places of `places`, which are keys * blocks. At most KEY_BLOCKS_MOST blocks a key. */
void block_keys(const uint8_t *page, const uint32_t *places, unsigned keys, unsigned blocks,
                uint32_t *features);

/* ---- Super-features: a few features are hashed together, so that one in common means much */

#define TRANSFORMS 12u

/* What rolls, with its tables; the same for all pages. */
struct super_features {
    uint64_t rabin_append[256];
    uint64_t rabin_remove[256];
    uint64_t gear[256];
    uint32_t factors[TRANSFORMS]; /* odd; of the linear transforms modulo 2^32 */
    uint32_t summands[TRANSFORMS];
    uint64_t gear_factors[TRANSFORMS]; /* odd; modulo 2^64 */
    uint64_t gear_summands[TRANSFORMS];
};

/* Rabin fingerprints modulo LBFS's irreducible polynomial of degree 63, of windows of 48 bytes. */
#define RABIN_POLYNOMIAL UINT64_C(0xbfe6b8a5bf378d83)
#define RABIN_WINDOW 48u
#define RABIN_WINDOWS (FEATURE_PAGE_BYTES - RABIN_WINDOW + 1u)

/* The positions at which Odess samples gear hashes: those with zeros at these seven bits. */
#define ODESS_MASK UINT64_C(0x0000400303410000)

/* Fills all tables: the random ones with splitmix64's numbers from seed 0. */
void super_features_prepare(struct super_features *tables);

/* The next number of splitmix64 (Steele, Lea and Flood, OOPSLA 2014). */
uint64_t splitmix64(uint64_t *state);

/* The fingerprint of each of the RABIN_WINDOWS windows of a page, in order. */
void rabin_fingerprints(const struct super_features *tables, const uint8_t *page,
                        uint64_t *fingerprints);

/* N-transform: twelve times the largest of the transformed fingerprints, hashed in groups of
 * `grouped` (4: three super-features; 1: twelve features). */
void ntransform_features(const struct super_features *tables, const uint8_t *page,
                         unsigned grouped, uint32_t *features);

/* Odess: the same of gear hashes, and only of the sampled ones. A page without any has no
 * features. */
void odess_features(const struct super_features *tables, const uint8_t *page, unsigned grouped,
                    uint32_t *features);

/* Finesse: the largest fingerprint of each twelfth of the page; of each three neighbours the
 * largest ones make the first super-feature, the second largest the second, the rest the third. */
void finesse_features(const struct super_features *tables, const uint8_t *page,
                      uint32_t *features);

/* ---- One-permutation min-hash (Li, Owen and Zhang, NIPS 2012) */

#define MIN_HASH_BINS_MOST 64u
#define MIN_HASH_WORDS_MOST 4u

/* The windows of 1 to MIN_HASH_WORDS_MOST words of 8 bytes, one at each word, fall into `bins` (a
 * power of two) by their hash; the smallest hash of each is a feature. Windows of one repeated
 * word are left out, and so are words of one repeated byte where a window is one word. */
void min_hash_features(const uint8_t *page, unsigned words, unsigned bins, uint32_t *features);

/* The hashes of the windows of a page, FEATURE_PAGE_BYTES / 8 - words + 1, as 64 bits; 0 for those
 * that are left out. */
void window_hashes(const uint8_t *page, unsigned words, uint64_t *hashes);

#endif
