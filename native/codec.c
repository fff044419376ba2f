#include "codec.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

/* The magicless format and the exact table sizes are "experimental" in zstd's headers, though
 * unchanged since 1.4; libzstd exports them from the shared library as well. */
#define ZSTD_STATIC_LINKING_ONLY
#define ZDICT_STATIC_LINKING_ONLY
#include <zdict.h>
#include <zstd.h>

#include "bwt.h"
#include "page_bsdiff.h"
#include "range_coder.h"
#include "vcdiff.h"
#include "xbzrle.h"

#define LEVEL_UNSET (-1000)

/* A transformed payload begins with the row of the page, less one. */
#define ROW_BYTES 2u

struct codec_dictionary {
    ZSTD_CDict *compress;
    ZSTD_DDict *decompress;
};

/* A page is often tried with several bases and then without: it is transformed once. */
struct transforms {
    uint8_t page[PAGE_BYTES];
    uint8_t ranks[PAGE_BYTES]; /* MTF(BWT(page)) */
    uint32_t row;
    int is_filled;
    uint8_t base_ranks[PAGE_BYTES];
    uint32_t workspace[BWT_WORKSPACE_WORDS(PAGE_BYTES)];
};

struct codec_context {
    const codec_dictionary *dictionary;
    ZSTD_CCtx *dictionary_compressor; /* these two exist once there is a dictionary */
    ZSTD_DCtx *dictionary_decompressor;
    ZSTD_CCtx *compressor;
    ZSTD_CCtx *patcher;
    ZSTD_DCtx *decompressor;
    int compressor_level;
    int patcher_level;
    void *lz4_state;
    vcdiff_workspace *vcdiff;
    /* These exist once a codec wants them: most recipes never do. */
    struct transforms *transforms;
    page_bsdiff_workspace *page_bsdiff;
    uint8_t *joined; /* room for a base with a page behind it */
    const codec_dictionary *of_groups;
    struct codec_companion companion;
};

int codec_prepare_frames(ZSTD_CCtx *context) {
    /* Four bytes of magic and the content size would be spent on every page: the reader knows both. */
    return ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_format, ZSTD_f_zstd1_magicless)) ||
           ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0)) ||
           ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 0)) ||
           ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_dictIDFlag, 0));
}

int codec_is_frame(const uint8_t *payload, size_t length) {
    /* RFC 8878, 3.1.1: a descriptor that promises nothing, the window, then blocks up to the last. */
    size_t at = 2;
    if (length < at || payload[0] != 0) {
        return 0;
    }
    while (length - at >= 3) {
        uint32_t block = payload[at] | (uint32_t)payload[at + 1] << 8 | (uint32_t)payload[at + 2] << 16;
        uint32_t kind = block >> 1 & 3u;
        size_t held = kind == 1u ? 1u : block >> 3; /* 1: one byte, repeated */
        at += 3;
        if (kind == 3u || held > length - at) {
            return 0;
        }
        at += held;
        if (block & 1u) {
            return at == length;
        }
    }
    return 0;
}

codec_context *codec_context_new(void) {
    codec_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        return NULL;
    }
    context->compressor = ZSTD_createCCtx();
    context->patcher = ZSTD_createCCtx();
    context->decompressor = ZSTD_createDCtx();
    context->lz4_state = malloc((size_t)LZ4_sizeofState());
    context->vcdiff = malloc(vcdiff_workspace_size());
    context->compressor_level = LEVEL_UNSET;
    context->patcher_level = LEVEL_UNSET;
    if (context->compressor == NULL || context->patcher == NULL || context->decompressor == NULL ||
        context->lz4_state == NULL || context->vcdiff == NULL || codec_prepare_frames(context->compressor) ||
        codec_prepare_frames(context->patcher) ||
        ZSTD_isError(ZSTD_DCtx_setParameter(context->decompressor, ZSTD_d_format,
                                            ZSTD_f_zstd1_magicless))) {
        codec_context_free(context);
        return NULL;
    }
    return context;
}

void codec_context_free(codec_context *context) {
    if (context == NULL) {
        return;
    }
    ZSTD_freeCCtx(context->dictionary_compressor);
    ZSTD_freeDCtx(context->dictionary_decompressor);
    ZSTD_freeCCtx(context->compressor);
    ZSTD_freeCCtx(context->patcher);
    ZSTD_freeDCtx(context->decompressor);
    free(context->lz4_state);
    free(context->vcdiff);
    free(context->transforms);
    free(context->page_bsdiff);
    free(context->joined);
    if (context->companion.what != NULL) {
        context->companion.free(context->companion.what);
    }
    free(context);
}

codec_dictionary *codec_dictionary_new(const uint8_t *bytes, size_t length, int level) {
    codec_dictionary *dictionary = calloc(1, sizeof *dictionary);
    if (dictionary == NULL) {
        return NULL;
    }
    if (level != DECODING_ONLY) {
        dictionary->compress = ZSTD_createCDict(bytes, length, level);
    }
    dictionary->decompress = ZSTD_createDDict(bytes, length);
    if ((level != DECODING_ONLY && dictionary->compress == NULL) || dictionary->decompress == NULL) {
        codec_dictionary_free(dictionary);
        return NULL;
    }
    return dictionary;
}

void codec_dictionary_free(codec_dictionary *dictionary) {
    if (dictionary != NULL) {
        ZSTD_freeCDict(dictionary->compress);
        ZSTD_freeDDict(dictionary->decompress);
        free(dictionary);
    }
}

size_t codec_dictionary_train(const uint8_t *pages, unsigned count, uint8_t *out, size_t capacity,
                              int level) {
    size_t *lengths = malloc(count * sizeof *lengths);
    if (lengths == NULL) {
        return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        lengths[i] = PAGE_BYTES;
    }
    /* One pass with fixed parameters; searching for better ones gains under half a per cent. */
    ZDICT_fastCover_params_t parameters;
    memset(&parameters, 0, sizeof parameters);
    parameters.k = 64;
    parameters.d = 8;
    parameters.f = 18;
    parameters.accel = 1;
    parameters.steps = 1;
    parameters.zParams.compressionLevel = level;
    size_t length =
        ZDICT_trainFromBuffer_fastCover(out, capacity, pages, lengths, count, parameters);
    free(lengths);
    return ZDICT_isError(length) ? 0 : length;
}

void codec_context_use(codec_context *context, const codec_dictionary *dictionary) {
    /* The zstd contexts refer to the old dictionary: they are made anew with the first page. */
    ZSTD_freeCCtx(context->dictionary_compressor);
    ZSTD_freeDCtx(context->dictionary_decompressor);
    context->dictionary_compressor = NULL;
    context->dictionary_decompressor = NULL;
    context->dictionary = dictionary;
}

void codec_context_use_for_groups(codec_context *context, const codec_dictionary *dictionary) {
    context->of_groups = dictionary;
}

const codec_dictionary *codec_context_for_groups(const codec_context *context) {
    return context->of_groups;
}

struct codec_companion *codec_context_companion(codec_context *context) {
    return &context->companion;
}

const ZSTD_CDict *codec_dictionary_compress(const codec_dictionary *dictionary) {
    return dictionary->compress;
}

const ZSTD_DDict *codec_dictionary_decompress(const codec_dictionary *dictionary) {
    return dictionary->decompress;
}

static ZSTD_CCtx *dictionary_compressor(codec_context *context) {
    if (context->dictionary_compressor == NULL && context->dictionary != NULL) {
        ZSTD_CCtx *zstd = ZSTD_createCCtx();
        if (zstd != NULL &&
            (codec_prepare_frames(zstd) ||
             ZSTD_isError(ZSTD_CCtx_refCDict(zstd, context->dictionary->compress)))) {
            ZSTD_freeCCtx(zstd);
            zstd = NULL;
        }
        context->dictionary_compressor = zstd;
    }
    return context->dictionary_compressor;
}

static ZSTD_DCtx *dictionary_decompressor(codec_context *context) {
    if (context->dictionary_decompressor == NULL && context->dictionary != NULL) {
        ZSTD_DCtx *zstd = ZSTD_createDCtx();
        if (zstd != NULL &&
            (ZSTD_isError(
                 ZSTD_DCtx_setParameter(zstd, ZSTD_d_format, ZSTD_f_zstd1_magicless)) ||
             ZSTD_isError(ZSTD_DCtx_refDDict(zstd, context->dictionary->decompress)))) {
            ZSTD_freeDCtx(zstd);
            zstd = NULL;
        }
        context->dictionary_decompressor = zstd;
    }
    return context->dictionary_decompressor;
}

static int set_level(ZSTD_CCtx *zstd, int *current, int level) {
    if (*current == level) {
        return 0;
    }
    if (ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level))) {
        return -1;
    }
    *current = level;
    return 0;
}

static size_t zstd_compress(ZSTD_CCtx *zstd, const uint8_t *page, uint8_t *out, size_t capacity) {
    size_t written = ZSTD_compress2(zstd, out, capacity, page, PAGE_BYTES);
    if (ZSTD_isError(written)) {
        /* A result that did not fit leaves the frame open, and an open frame takes no prefix. */
        ZSTD_CCtx_reset(zstd, ZSTD_reset_session_only);
        return 0;
    }
    return written;
}

/* NULL without memory. */
static struct transforms *transforms_of(codec_context *context) {
    if (context->transforms == NULL) {
        context->transforms = malloc(sizeof *context->transforms);
        if (context->transforms != NULL) {
            context->transforms->is_filled = 0;
        }
    }
    return context->transforms;
}

static uint32_t transform(struct transforms *transforms, const uint8_t *page, uint8_t *ranks) {
    uint32_t row = bwt_transform(page, PAGE_BYTES, ranks, transforms->workspace);
    mtf_encode(ranks, PAGE_BYTES);
    return row;
}

static size_t transformed_encode(codec_context *context, enum codec codec, int level,
                                 const uint8_t *page, const uint8_t *base, uint8_t *out,
                                 size_t capacity) {
    struct transforms *transforms = transforms_of(context);
    if (transforms == NULL || capacity < ROW_BYTES) {
        return 0;
    }
    if (!transforms->is_filled || memcmp(transforms->page, page, PAGE_BYTES) != 0) {
        memcpy(transforms->page, page, PAGE_BYTES);
        transforms->row = transform(transforms, page, transforms->ranks);
        transforms->is_filled = 1;
    }
    out[0] = (uint8_t)transforms->row;
    out[1] = (uint8_t)(transforms->row >> 8);
    out += ROW_BYTES;
    capacity -= ROW_BYTES;
    if (codec == CODEC_BWT_RANGE) {
        long written = range_encode(transforms->ranks, PAGE_BYTES, out, capacity);
        return written < 0 ? 0 : ROW_BYTES + (size_t)written;
    }
    ZSTD_CCtx *zstd = context->compressor;
    int *current_level = &context->compressor_level;
    if (base != NULL) {
        transform(transforms, base, transforms->base_ranks);
        zstd = context->patcher;
        current_level = &context->patcher_level;
    }
    if (set_level(zstd, current_level, level) ||
        (base != NULL &&
         ZSTD_isError(ZSTD_CCtx_refPrefix(zstd, transforms->base_ranks, PAGE_BYTES)))) {
        return 0;
    }
    size_t written = zstd_compress(zstd, transforms->ranks, out, capacity);
    return written == 0 ? 0 : ROW_BYTES + written;
}

/* NULL without memory. */
static page_bsdiff_workspace *page_bsdiff_of(codec_context *context) {
    if (context->page_bsdiff == NULL) {
        context->page_bsdiff = malloc(page_bsdiff_workspace_size());
    }
    return context->page_bsdiff;
}

static size_t lz4_prefix_encode(codec_context *context, const uint8_t *page, const uint8_t *base,
                                uint8_t *out, size_t capacity) {
    if (context->joined == NULL) {
        context->joined = malloc(2u * PAGE_BYTES);
    }
    if (context->joined == NULL || capacity == 0) {
        return 0;
    }
    /* lz4 treats a dictionary that happens to end where the page begins in another way: here it
     * always does, so that a payload does not depend on where its pages lie. */
    memcpy(context->joined, base, PAGE_BYTES);
    memcpy(context->joined + PAGE_BYTES, page, PAGE_BYTES);
    LZ4_stream_t *stream = LZ4_initStream(context->lz4_state, sizeof *stream);
    LZ4_loadDict(stream, (const char *)context->joined, (int)PAGE_BYTES);
    int written =
        LZ4_compress_fast_continue(stream, (const char *)context->joined + PAGE_BYTES, (char *)out,
                                   (int)PAGE_BYTES, (int)capacity, 1);
    return written > 0 ? (size_t)written : 0;
}

size_t codec_encode(codec_context *context, enum codec codec, int level, const uint8_t *page,
                    const uint8_t *base, uint8_t *out, size_t capacity) {
    switch (codec) {
    case CODEC_SAME: {
        uint64_t word;
        if (capacity < 8 || !page_is_same_filled(page, &word)) {
            return 0;
        }
        memcpy(out, page, 8);
        return 8;
    }
    case CODEC_RAW:
        if (capacity < PAGE_BYTES) {
            return 0;
        }
        memcpy(out, page, PAGE_BYTES);
        return PAGE_BYTES;
    case CODEC_ZSTD:
        if (set_level(context->compressor, &context->compressor_level, level)) {
            return 0;
        }
        return zstd_compress(context->compressor, page, out, capacity);
    case CODEC_ZSTD_DICTIONARY: {
        ZSTD_CCtx *zstd = dictionary_compressor(context);
        return zstd == NULL ? 0 : zstd_compress(zstd, page, out, capacity);
    }
    case CODEC_ZSTD_PREFIX:
        if (base == NULL || set_level(context->patcher, &context->patcher_level, level) ||
            ZSTD_isError(ZSTD_CCtx_refPrefix(context->patcher, base, PAGE_BYTES))) {
            return 0;
        }
        return zstd_compress(context->patcher, page, out, capacity);
    case CODEC_LZ4: {
        int written = LZ4_compress_fast_extState(context->lz4_state, (const char *)page,
                                                 (char *)out, (int)PAGE_BYTES, (int)capacity, 1);
        return written > 0 ? (size_t)written : 0;
    }
    case CODEC_VCDIFF: {
        long written =
            base == NULL ? -1 : vcdiff_encode(context->vcdiff, page, base, out, capacity);
        return written > 0 ? (size_t)written : 0;
    }
    case CODEC_XBZRLE: {
        long written = base == NULL ? -1 : xbzrle_encode(page, base, out, capacity);
        return written > 0 ? (size_t)written : 0;
    }
    case CODEC_LZ4_PREFIX:
        return base == NULL ? 0 : lz4_prefix_encode(context, page, base, out, capacity);
    case CODEC_PAGE_BSDIFF: {
        page_bsdiff_workspace *ws = page_bsdiff_of(context);
        long written = base == NULL || ws == NULL
                           ? -1
                           : page_bsdiff_encode(ws, page, base, out, capacity);
        return written > 0 ? (size_t)written : 0;
    }
    case CODEC_BWT_RANGE:
    case CODEC_BWT_ZSTD:
        return transformed_encode(context, codec, level, page, NULL, out, capacity);
    case CODEC_BWT_PREFIX:
        return base == NULL ? 0
                            : transformed_encode(context, codec, level, page, base, out, capacity);
    case CODEC_NONE:
    case CODEC_MEMBER:
    case CODEC_GROUP_ZSTD:
    case CODEC_GROUP_LZMA:
    case CODEC_GROUP_DICTIONARY:
    case CODEC_COUNT:
        break;
    }
    return 0;
}

size_t codec_encoder_bytes(const codec_context *context, enum codec codec) {
    switch (codec) {
    case CODEC_ZSTD:
        return ZSTD_sizeof_CCtx(context->compressor);
    case CODEC_ZSTD_DICTIONARY:
        return ZSTD_sizeof_CCtx(context->dictionary_compressor) +
               (context->dictionary == NULL ? 0
                                            : ZSTD_sizeof_CDict(context->dictionary->compress));
    case CODEC_ZSTD_PREFIX:
        return ZSTD_sizeof_CCtx(context->patcher);
    case CODEC_LZ4:
        return (size_t)LZ4_sizeofState();
    case CODEC_LZ4_PREFIX:
        return (size_t)LZ4_sizeofState() + 2u * PAGE_BYTES;
    case CODEC_VCDIFF:
        return vcdiff_workspace_size();
    case CODEC_PAGE_BSDIFF:
        return page_bsdiff_workspace_size();
    case CODEC_BWT_RANGE:
        return sizeof *context->transforms;
    case CODEC_BWT_ZSTD:
        return sizeof *context->transforms + ZSTD_sizeof_CCtx(context->compressor);
    case CODEC_BWT_PREFIX:
        return sizeof *context->transforms + ZSTD_sizeof_CCtx(context->patcher);
    case CODEC_NONE:
    case CODEC_SAME:
    case CODEC_RAW:
    case CODEC_XBZRLE:
    case CODEC_MEMBER:
    case CODEC_GROUP_ZSTD:
    case CODEC_GROUP_LZMA:
    case CODEC_GROUP_DICTIONARY:
    case CODEC_COUNT:
        break;
    }
    return 0;
}

size_t codec_decoder_bytes(const codec_context *context, enum codec codec) {
    switch (codec) {
    case CODEC_ZSTD:
    case CODEC_ZSTD_PREFIX:
        return ZSTD_sizeof_DCtx(context->decompressor);
    case CODEC_ZSTD_DICTIONARY:
        return ZSTD_sizeof_DCtx(context->dictionary_decompressor) +
               (context->dictionary == NULL ? 0
                                            : ZSTD_sizeof_DDict(context->dictionary->decompress));
    case CODEC_PAGE_BSDIFF:
        return page_bsdiff_workspace_size();
    case CODEC_BWT_RANGE:
        return sizeof *context->transforms;
    case CODEC_BWT_ZSTD:
    case CODEC_BWT_PREFIX:
        return sizeof *context->transforms + ZSTD_sizeof_DCtx(context->decompressor);
    case CODEC_NONE:
    case CODEC_SAME:
    case CODEC_RAW:
    case CODEC_LZ4:
    case CODEC_LZ4_PREFIX:
    case CODEC_VCDIFF:
    case CODEC_XBZRLE:
    case CODEC_MEMBER:
    case CODEC_GROUP_ZSTD:
    case CODEC_GROUP_LZMA:
    case CODEC_GROUP_DICTIONARY:
    case CODEC_COUNT:
        break;
    }
    return 0;
}

static int zstd_decode(codec_context *context, const uint8_t *payload, size_t length,
                       const uint8_t *base, uint8_t *page) {
    if (!codec_is_frame(payload, length)) {
        return -1;
    }
    if (base != NULL &&
        ZSTD_isError(ZSTD_DCtx_refPrefix(context->decompressor, base, PAGE_BYTES))) {
        return -1;
    }
    size_t written =
        ZSTD_decompressDCtx(context->decompressor, page, PAGE_BYTES, payload, length);
    return written == PAGE_BYTES ? 0 : -1;
}

static int transformed_decode(codec_context *context, enum codec codec, const uint8_t *payload,
                              size_t length, const uint8_t *base, uint8_t *page) {
    struct transforms *transforms = transforms_of(context);
    if (transforms == NULL || length < ROW_BYTES) {
        return -1;
    }
    uint32_t row = payload[0] | (uint32_t)payload[1] << 8;
    payload += ROW_BYTES;
    length -= ROW_BYTES;
    if (base != NULL) {
        transform(transforms, base, transforms->base_ranks);
        base = transforms->base_ranks;
    }
    if (codec == CODEC_BWT_RANGE ? range_decode(payload, length, page, PAGE_BYTES)
                                 : zstd_decode(context, payload, length, base, page)) {
        return -1;
    }
    mtf_decode(page, PAGE_BYTES);
    return bwt_inverse(page, PAGE_BYTES, row, page, transforms->workspace);
}

int codec_decode(codec_context *context, enum codec codec, const uint8_t *payload, size_t length,
                 const uint8_t *base, uint8_t *page) {
    switch (codec) {
    case CODEC_SAME:
        if (length != 8) {
            return -1;
        }
        for (size_t i = 0; i < PAGE_BYTES; i += 8) {
            memcpy(page + i, payload, 8);
        }
        return 0;
    case CODEC_RAW:
        if (length != PAGE_BYTES) {
            return -1;
        }
        memcpy(page, payload, PAGE_BYTES);
        return 0;
    case CODEC_ZSTD:
        return zstd_decode(context, payload, length, NULL, page);
    case CODEC_ZSTD_DICTIONARY: {
        ZSTD_DCtx *zstd = dictionary_decompressor(context);
        return zstd != NULL && codec_is_frame(payload, length) &&
                       ZSTD_decompressDCtx(zstd, page, PAGE_BYTES, payload, length) == PAGE_BYTES
                   ? 0
                   : -1;
    }
    case CODEC_ZSTD_PREFIX:
        return base == NULL ? -1 : zstd_decode(context, payload, length, base, page);
    case CODEC_LZ4:
        return LZ4_decompress_safe((const char *)payload, (char *)page, (int)length,
                                   (int)PAGE_BYTES) == (int)PAGE_BYTES
                   ? 0
                   : -1;
    case CODEC_VCDIFF:
        return base == NULL ? -1 : vcdiff_decode(payload, length, base, page);
    case CODEC_XBZRLE:
        return base == NULL ? -1 : xbzrle_decode(payload, length, base, page);
    case CODEC_LZ4_PREFIX:
        return base != NULL && LZ4_decompress_safe_usingDict(
                                   (const char *)payload, (char *)page, (int)length,
                                   (int)PAGE_BYTES, (const char *)base, (int)PAGE_BYTES) ==
                                   (int)PAGE_BYTES
                   ? 0
                   : -1;
    case CODEC_PAGE_BSDIFF: {
        page_bsdiff_workspace *ws = page_bsdiff_of(context);
        return base == NULL || ws == NULL ? -1
                                          : page_bsdiff_decode(ws, payload, length, base, page);
    }
    case CODEC_BWT_RANGE:
    case CODEC_BWT_ZSTD:
        return transformed_decode(context, codec, payload, length, NULL, page);
    case CODEC_BWT_PREFIX:
        return base == NULL ? -1
                            : transformed_decode(context, codec, payload, length, base, page);
    case CODEC_NONE:
    case CODEC_MEMBER:
    case CODEC_GROUP_ZSTD:
    case CODEC_GROUP_LZMA:
    case CODEC_GROUP_DICTIONARY:
    case CODEC_COUNT:
        break;
    }
    return -1;
}
