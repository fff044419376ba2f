/* Page codecs: pure functions from (page, base) to payload and back, with reused contexts. */
#ifndef DIFFFS_CODEC_H
#define DIFFFS_CODEC_H

#include <limits.h>

#include "page.h"

/* Stored in every object record: numbers are part of the store's format and never reused. */
enum codec {
    CODEC_NONE = 0,
    CODEC_SAME = 1,        /* payload: the repeated 8-byte word */
    CODEC_RAW = 2,         /* payload: the page */
    CODEC_ZSTD = 3,        /* payload: magicless zstd frame */
    CODEC_LZ4 = 4,         /* payload: lz4 block */
    CODEC_ZSTD_PREFIX = 5, /* payload: zstd frame with the base as prefix */
    CODEC_VCDIFF = 6,      /* payload: VCDIFF windows (RFC 3284) against the base */
    CODEC_ZSTD_DICTIONARY = 7, /* payload: magicless zstd frame, needs the store's dictionary */
    CODEC_XBZRLE = 8,      /* payload: QEMU's XBZRLE against the base */
    CODEC_LZ4_PREFIX = 9,  /* payload: lz4 block with the base as prefix */
    CODEC_PAGE_BSDIFF = 10, /* payload: patch of page_bsdiff.h */
    CODEC_BWT_RANGE = 11,  /* payload: row (2 bytes), MTF(BWT(page)) by the range coder */
    CODEC_BWT_ZSTD = 12,   /* payload: row, magicless zstd frame of MTF(BWT(page)) */
    CODEC_BWT_PREFIX = 13, /* payload: row, zstd frame with MTF(BWT(base)) as prefix */
    CODEC_MEMBER = 14,     /* no payload: a page of a group */
    CODEC_GROUP_ZSTD = 15, /* payload: magicless zstd frame of several pages (group_codec.h) */
    CODEC_GROUP_LZMA = 16, /* payload: LZMA of several pages, without any header */
    CODEC_GROUP_DICTIONARY = 17, /* as GROUP_ZSTD, needs the store's dictionary of groups */
    CODEC_COUNT = 18,
};

/* Below it are the codecs of single pages, which are decoded here. */
#define PAGE_CODEC_COUNT 14u

/* For arrays with an element for each codec. */
#define CODEC_ROOM 20u

static inline int codec_is_group(unsigned codec) {
    return codec >= CODEC_GROUP_ZSTD && codec <= CODEC_GROUP_DICTIONARY;
}

static inline int codec_is_patch(unsigned codec) {
    return codec == CODEC_ZSTD_PREFIX || codec == CODEC_VCDIFF || codec == CODEC_XBZRLE ||
           codec == CODEC_LZ4_PREFIX || codec == CODEC_PAGE_BSDIFF || codec == CODEC_BWT_PREFIX;
}

/* One thread at a time; each worker owns one. Holds the zstd contexts and the scratch space. */
typedef struct codec_context codec_context;

codec_context *codec_context_new(void);
void codec_context_free(codec_context *context);

/* As a level: the dictionary is for decoding only. */
#define DECODING_ONLY INT_MIN

/* A zstd dictionary, digested for both directions. Never changes; any number of contexts and
 * threads may use it at once. NULL without memory. zstd takes any bytes for a dictionary: the
 * caller vouches for them. */
typedef struct codec_dictionary codec_dictionary;

codec_dictionary *codec_dictionary_new(const uint8_t *bytes, size_t length, int level);
void codec_dictionary_free(codec_dictionary *dictionary);

/* Trains a dictionary from `count` pages. Returns its length, or 0 when they do not suffice. */
size_t codec_dictionary_train(const uint8_t *pages, unsigned count, uint8_t *out, size_t capacity,
                              int level);

/* The context must not outlive the dictionary. */
void codec_context_use(codec_context *context, const codec_dictionary *dictionary);

/* The dictionary of groups, likewise, for who decodes them with this context. */
void codec_context_use_for_groups(codec_context *context, const codec_dictionary *dictionary);
const codec_dictionary *codec_context_for_groups(const codec_context *context);

/* What else who works with the context keeps from page to page. It is freed with the context. */
struct codec_companion {
    void *what; /* NULL at first */
    void (*free)(void *what);
};
struct codec_companion *codec_context_companion(codec_context *context);

/* For those who call zstd themselves: what frames of the store do without, and a dictionary's forms. */
struct ZSTD_CCtx_s;
struct ZSTD_CDict_s;
struct ZSTD_DDict_s;
int codec_prepare_frames(struct ZSTD_CCtx_s *zstd);

/* Whether a payload is one frame of these, whole, and nothing behind it. Asked before zstd decodes
 * it: of the magicless format some versions look at four bytes even where less is left of the input
 * (1.5.4; behind a frame, or of a shorter one), and all take several frames for one payload. */
int codec_is_frame(const uint8_t *payload, size_t length);

const struct ZSTD_CDict_s *codec_dictionary_compress(const codec_dictionary *dictionary);
const struct ZSTD_DDict_s *codec_dictionary_decompress(const codec_dictionary *dictionary);

/* Encodes page (against base for patches) into out.
 * Returns the bytes written, or 0 when the result would exceed capacity. The page must not lie
 * within the base's buffer: zstd takes an overlapping prefix for overwritten. */
size_t codec_encode(codec_context *context, enum codec codec, int level, const uint8_t *page,
                    const uint8_t *base, uint8_t *out, size_t capacity);

/* Bytes of memory that the codec works in beside the page, its base and the payload: its part of the
 * context, as large as it became with what was encoded so far. Without the stack. */
size_t codec_encoder_bytes(const codec_context *context, enum codec codec);
size_t codec_decoder_bytes(const codec_context *context, enum codec codec);

/* Decodes payload. Returns 0, or -1 when malformed: every
 * byte of the page is written on success, none is promised on failure. */
int codec_decode(codec_context *context, enum codec codec, const uint8_t *payload, size_t length,
                 const uint8_t *base, uint8_t *page);

#endif
