/* An adaptive range coder for the ranks that move-to-front leaves of a transformed block: mostly
 * zeros, in runs, else small numbers.
 *
 * Each rank is a few binary decisions: is it zero; else in which class of 1, 2, 3..4, 5..8, ... is
 * it, asked from the smallest up; then its place in the class, highest bit first. A decision's
 * probability is learnt on the way in up to three contexts, which count by how much they have seen,
 * so that a page's first few bytes already teach. Integers only: the same everywhere.
 *
 * All functions are reentrant: what changes is on the stack (about 8 KiB).
 */
#ifndef DIFFFS_RANGE_CODER_H
#define DIFFFS_RANGE_CODER_H

#include <stddef.h>
#include <stdint.h>

/* Writes the code of `count` ranks to `out`, `capacity` bytes at most. Returns its length in bytes
 * (0 is possible: bytes behind the end count as zeros), or -1 when it does not fit. */
long range_encode(const uint8_t *ranks, size_t count, uint8_t *out, size_t capacity);

/* Rebuilds `count` ranks. Returns 0, or -1 when no ranks have this code: `ranks` then holds no
 * meaningful bytes. Any bytes may be given. */
int range_decode(const uint8_t *code, size_t length, uint8_t *ranks, size_t count);

#endif
