#include "codec.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

/* The magicless format and the exact table sizes are "experimental" in zstd's headers, though
 * unchanged since 1.4; libzstd exports them from the shared library as well. */
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include "vcdiff.h"

#define LEVEL_UNSET (-1000)

struct codec_context {
    ZSTD_CCtx *compressor;
    ZSTD_CCtx *patcher;
    ZSTD_DCtx *decompressor;
    int compressor_level;
    int patcher_level;
    void *lz4_state;
    vcdiff_workspace *vcdiff;
};

static int prepare(ZSTD_CCtx *context) {
    /* Four bytes of magic and the content size would be spent on every page: the reader knows both. */
    return ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_format, ZSTD_f_zstd1_magicless)) ||
           ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0)) ||
           ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 0)) ||
           ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_dictIDFlag, 0));
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
        context->lz4_state == NULL || context->vcdiff == NULL || prepare(context->compressor) ||
        prepare(context->patcher) ||
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
    ZSTD_freeCCtx(context->compressor);
    ZSTD_freeCCtx(context->patcher);
    ZSTD_freeDCtx(context->decompressor);
    free(context->lz4_state);
    free(context->vcdiff);
    free(context);
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
    case CODEC_NONE:
    case CODEC_COUNT:
        break;
    }
    return 0;
}

static int zstd_decode(codec_context *context, const uint8_t *payload, size_t length,
                       const uint8_t *base, uint8_t *page) {
    if (base != NULL &&
        ZSTD_isError(ZSTD_DCtx_refPrefix(context->decompressor, base, PAGE_BYTES))) {
        return -1;
    }
    size_t written =
        ZSTD_decompressDCtx(context->decompressor, page, PAGE_BYTES, payload, length);
    return written == PAGE_BYTES ? 0 : -1;
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
    case CODEC_ZSTD_PREFIX:
        return base == NULL ? -1 : zstd_decode(context, payload, length, base, page);
    case CODEC_LZ4:
        return LZ4_decompress_safe((const char *)payload, (char *)page, (int)length,
                                   (int)PAGE_BYTES) == (int)PAGE_BYTES
                   ? 0
                   : -1;
    case CODEC_VCDIFF:
        return base == NULL ? -1 : vcdiff_decode(payload, length, base, page);
    case CODEC_NONE:
    case CODEC_COUNT:
        break;
    }
    return -1;
}
