/* Page codecs: pure functions from (page, base) to payload and back, with reused contexts. */
#ifndef DIFFFS_CODEC_H
#define DIFFFS_CODEC_H

#include "page.h"

/* Stored in every object record: numbers are part of the store's format and never reused. */
enum codec {
    CODEC_NONE = 0,
    CODEC_SAME = 1,        /* payload: the repeated 8-byte word */
    CODEC_RAW = 2,         /* payload: the page */
    CODEC_ZSTD = 3,        /* payload: magicless zstd frame */
    CODEC_LZ4 = 4,         /* payload: lz4 block */
    CODEC_ZSTD_PREFIX = 5, /* payload: base id (4 bytes, little endian), zstd frame with the base as prefix */
    CODEC_VCDIFF = 6,      /* payload: base id, VCDIFF windows (RFC 3284) against the base */
    CODEC_COUNT = 7,
};

/* A patch payload begins with the object id of its base. */
#define BASE_ID_BYTES 4u

static inline int codec_is_patch(unsigned codec) {
    return codec == CODEC_ZSTD_PREFIX || codec == CODEC_VCDIFF;
}

/* One thread at a time; each worker owns one. Holds the zstd contexts and the scratch space. */
typedef struct codec_context codec_context;

codec_context *codec_context_new(void);
void codec_context_free(codec_context *context);

/* Encodes page (against base for patches; without the base id) into out.
 * Returns the bytes written, or 0 when the result would exceed capacity. */
size_t codec_encode(codec_context *context, enum codec codec, int level, const uint8_t *page,
                    const uint8_t *base, uint8_t *out, size_t capacity);

/* Decodes payload (for patches: without the base id). Returns 0, or -1 when malformed: every
 * byte of the page is written on success, none is promised on failure. */
int codec_decode(codec_context *context, enum codec codec, const uint8_t *payload, size_t length,
                 const uint8_t *base, uint8_t *page);

#endif
