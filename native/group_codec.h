/* Group codecs: pure functions from up to 64 pages to one payload and back, with reused contexts. */
#ifndef DIFFFS_GROUP_CODEC_H
#define DIFFFS_GROUP_CODEC_H

#include "codec.h"

#define GROUP_PAGES_MOST 64u
#define GROUP_BYTES_MOST (GROUP_PAGES_MOST * PAGE_BYTES) /* of a payload, too */

/* One thread at a time. Holds what encoding takes: some MiB. */
typedef struct group_encoder group_encoder;

/* `level` is of zstd, and of a dictionary its own counts; LZMA has one setting. The dictionary is for
 * CODEC_GROUP_DICTIONARY, else NULL; it must outlive the encoder. NULL without memory. */
group_encoder *group_encoder_new(enum codec codec, int level, const codec_dictionary *dictionary);
void group_encoder_free(group_encoder *encoder);

/* Encodes `count` pages into out. Returns the bytes written, or 0 when they would exceed capacity, or
 * there is no memory. */
size_t group_encode(group_encoder *encoder, const uint8_t *pages, unsigned count, uint8_t *out,
                    size_t capacity);

/* One thread at a time. */
typedef struct group_decoder group_decoder;

/* NULL without memory. What a codec needs is made when it is first decoded. */
group_decoder *group_decoder_new(void);
void group_decoder_free(group_decoder *decoder);
void group_decoder_use(group_decoder *decoder, const codec_dictionary *dictionary);

/* Decodes the first `wanted` pages at least of a group of `count`; with LZMA the rest is spared. Returns
 * how many pages were decoded, all of their bytes written, or 0 when the payload is malformed. `pages`
 * has room for all `count`. */
unsigned group_decode(group_decoder *decoder, enum codec codec, const uint8_t *payload,
                      size_t length, unsigned count, unsigned wanted, uint8_t *pages);

#endif
