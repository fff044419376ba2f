/* Pure kernels over one 4 KiB page: same-fill test, digest, sketches. No I/O, no state. */
#ifndef DIFFFS_PAGE_H
#define DIFFFS_PAGE_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096u
#define MAXIMUM_FEATURES 4u

/* How a page is proposed to others; numbers are part of the recipe, not of the store's format. */
enum sketch_kind {
    SKETCH_NONE = 0,
    SKETCH_MIN_HASH = 1,     /* one-permutation min-hash, four features */
    SKETCH_FIXED_BLOCKS = 2, /* Difference Engine's (2,1): two keys from two fixed 64-byte blocks */
    SKETCH_TRANSFORMED_BLOCKS = 3, /* the same keys of the transformed page, MTF(BWT(page)) */
};

/* True when the page is one 8-byte word repeated; the word goes to *word. */
int page_is_same_filled(const uint8_t *page, uint64_t *word);

/* XXH3-64 of the page. Proposes identical pages; the bytes decide. */
uint64_t page_digest(const uint8_t *page);

/* 32-bit checksum of a payload (low half of XXH3-64). */
uint32_t payload_checksum(const uint8_t *payload, size_t length);

/* XXH3-64 of a value, seeded with that of an identity: binds the one to the other. */
uint64_t value_binding(const uint8_t *identity, size_t identity_length, const uint8_t *value,
                       size_t length);

/* Writes the page's features; returns how many (0 to MAXIMUM_FEATURES). */
unsigned page_sketch(enum sketch_kind kind, const uint8_t *page, uint32_t *features);

/* Bytes of the longest run that both pages hold around a window which gives both the same feature
 * of SKETCH_MIN_HASH, wherever in each it lies; 0 when they have none in common. Tells pages that
 * share one phrase from those that share more. */
size_t page_common_run(const uint8_t *page, const uint8_t *base);

#endif
