/* VCDIFF (RFC 3284) patches between two pages of 4096 bytes.
 *
 * A patch is the part of an RFC 3284 stream that differs from page to page:
 *
 *     length of the data section          integer (RFC 3284 section 2)
 *     length of the instructions section  integer
 *     data section                        bytes of ADD and RUN
 *     instructions section                codes and sizes
 *     addresses section                   the rest of the patch
 *
 * Everything else of the stream follows from "one window of 4096 bytes, the base is its source
 * segment, default code table, no secondary compression, no checksum"; vcdiff_to_stream() puts it
 * back in front, and any VCDIFF tool can then decode the patch:
 *
 *     xdelta3 -d -s base stream page
 *
 * All functions are reentrant: what changes is the caller's workspace or on the stack.
 */
#ifndef DIFFFS_VCDIFF_H
#define DIFFFS_VCDIFF_H

#include <stddef.h>
#include <stdint.h>

#define VCDIFF_PAGE_SIZE 4096

/* The most bytes that vcdiff_to_stream() adds to a patch. */
#define VCDIFF_STREAM_OVERHEAD 18

/* Scratch memory of the encoder: one a thread, needs no initialisation, may be reused freely. */
typedef struct vcdiff_workspace vcdiff_workspace;

/* Bytes of a workspace; its address must be aligned as malloc aligns. */
size_t vcdiff_workspace_size(void);

/* Write the patch that turns `base` into `page`, at most `capacity` bytes of it, to `out`.
 * Returns its length in bytes, or -1 when it would be longer than `capacity` (`out` is then left
 * as it was). `page` and `base` are 4096 bytes each. */
long vcdiff_encode(vcdiff_workspace *ws, const uint8_t *page, const uint8_t *base, uint8_t *out,
                   size_t capacity);

/* Rebuild `page` (4096 bytes) from `patch` and `base`.
 * Returns 0, or a negative number when the patch is malformed; `page` then holds no meaningful
 * bytes. Any bytes may be given as a patch: nothing is read or written outside the buffers.
 * `page` must not overlap `patch` or `base`. */
int vcdiff_decode(const uint8_t *patch, size_t length, const uint8_t *base, uint8_t *page);

/* Write the complete RFC 3284 stream of a patch to `out`.
 * Returns its length in bytes, or -1 when it would be longer than `capacity` (`length` +
 * VCDIFF_STREAM_OVERHEAD is always enough), or its two length fields are malformed, or it is far
 * longer than a patch can be (65536 bytes). The instructions are not examined. */
long vcdiff_to_stream(const uint8_t *patch, size_t length, uint8_t *out, size_t capacity);

#endif
