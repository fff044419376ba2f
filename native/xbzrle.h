/* XBZRLE patches between two pages of 4096 bytes: what QEMU sends of a page that changed during a
 * live migration (its docs/devel/migration, migration/xbzrle.c).
 *
 * A patch is a list of pairs of runs:
 *
 *     length of a run of bytes that equal the base's   ULEB128, one or two bytes
 *     length of a run of bytes that differ             ULEB128
 *     the differing bytes, as they are in the page
 *
 * Only the first run of equal bytes may be empty. Equal bytes at the page's end are left out. QEMU
 * has no patch for a page that equals its base; here it is the one run of 4096 bytes (80 20).
 *
 * Both functions are reentrant and need no memory.
 */
#ifndef DIFFFS_XBZRLE_H
#define DIFFFS_XBZRLE_H

#include <stddef.h>
#include <stdint.h>

#define XBZRLE_PAGE_SIZE 4096

/* Write the patch that turns `base` into `page`, at most `capacity` bytes of it, to `out`.
 * Returns its length in bytes, or -1 when it would be longer than `capacity` (`out` then holds no
 * meaningful bytes). */
long xbzrle_encode(const uint8_t *page, const uint8_t *base, uint8_t *out, size_t capacity);

/* Rebuild `page` (4096 bytes) from `patch` and `base`.
 * Returns 0, or a negative number when the patch is malformed; `page` then holds no meaningful
 * bytes. Any bytes may be given as a patch: nothing is read or written outside the buffers.
 * `page` must not overlap `patch` or `base`. */
int xbzrle_decode(const uint8_t *patch, size_t length, const uint8_t *base, uint8_t *page);

#endif
