/* bsdiff (Percival, 2003) made for pages of 4096 bytes.
 *
 * As in bsdiff, a patch is a list of triples (diff, extra, seek): `diff` bytes of the page are
 * those of an approximate match, from which they differ here and there, `extra` bytes follow that
 * match nothing, and `seek` moves to where the next match is. What is different:
 *
 * - matches are found by a hash of four bytes instead of a suffix array;
 * - the page matches itself as well, not the base alone;
 * - triples, differences and extra bytes pass through one adaptive range coder, one behind the
 *   other and without any header, four bits at once where it matters. Differences know where in a
 *   word they are and which byte they change, extra bytes know the one before them.
 *
 * docs/store-format.md has every decision that is coded, and its contexts.
 *
 * All functions are reentrant: what changes is the caller's workspace.
 */
#ifndef DIFFFS_PAGE_BSDIFF_H
#define DIFFFS_PAGE_BSDIFF_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_BSDIFF_PAGE_SIZE 4096

/* Scratch memory of both directions: one a thread, needs no initialisation, may be reused
 * freely. */
typedef struct page_bsdiff_workspace page_bsdiff_workspace;

/* Bytes of a workspace; its address must be aligned as malloc aligns. */
size_t page_bsdiff_workspace_size(void);

/* Write the patch that turns `base` into `page`, at most `capacity` bytes of it, to `out`.
 * Returns its length in bytes, or -1 when it would be longer than `capacity` (`out` then holds no
 * meaningful bytes). `page` and `base` are 4096 bytes each. */
long page_bsdiff_encode(page_bsdiff_workspace *ws, const uint8_t *page, const uint8_t *base,
                        uint8_t *out, size_t capacity);

/* Rebuild `page` (4096 bytes) from `patch` and `base`.
 * Returns 0, or a negative number when the patch is malformed; `page` is then left as it was. Any
 * bytes may be given as a patch: nothing is read or written outside the buffers. */
int page_bsdiff_decode(page_bsdiff_workspace *ws, const uint8_t *patch, size_t length,
                       const uint8_t *base, uint8_t *page);

#endif
