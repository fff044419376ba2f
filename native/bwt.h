/* The Burrows-Wheeler transform of a block, and move-to-front.
 *
 * Rows are those of the block with an end mark that is smaller than every byte; the mark itself is
 * left out of the result. "banana" becomes "annbaa", with the mark at row 4.
 *
 * The suffixes are sorted by induced sorting (SA-IS: Nong, Zhang and Chan, 2009), whose time is
 * linear whatever the bytes are: an all-equal or periodic block costs no more than others.
 *
 * All functions are reentrant: what changes is the caller's workspace or on the stack.
 */
#ifndef DIFFFS_BWT_H
#define DIFFFS_BWT_H

#include <stddef.h>
#include <stdint.h>

#define BWT_MAXIMUM_BYTES 65536u

/* Words of scratch memory for blocks of up to `length` bytes, for either direction. It needs no
 * initialisation and may be reused freely. */
#define BWT_WORKSPACE_WORDS(length) (6u * (length) + 1024u)

/* Writes the transform of 1 to BWT_MAXIMUM_BYTES bytes to `out`, of the same length.
 * Returns the row of the end mark, less one: 0 to length - 1. */
uint32_t bwt_transform(const uint8_t *block, size_t length, uint8_t *out,
                       uint32_t *workspace);

/* The inverse. Returns 0, or -1 when no block has this transform and row: `block` then holds no
 * meaningful bytes. Any bytes and any row may be given. `block` may be `transformed`. */
int bwt_inverse(const uint8_t *transformed, size_t length, uint32_t row, uint8_t *block,
                uint32_t *workspace);

/* Move-to-front: each byte becomes the number of different bytes since it was last seen, starting
 * from a list in ascending order. In place. */
void mtf_encode(uint8_t *bytes, size_t length);
void mtf_decode(uint8_t *bytes, size_t length);

#endif
