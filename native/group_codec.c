#include "group_codec.h"

#include <lzma.h>
#include <stdlib.h>
#include <string.h>

#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

/* LZMA's settings are part of the store's format: nothing of them is in the payload. Measured on groups
 * of 64 pages of guests' memory (docs/adr/0020-groups.md): lc, lp and pb change their size by less than
 * half a per cent, and these are liblzma's own. */
static int lzma_settings(lzma_options_lzma *options) {
    if (lzma_lzma_preset(options, 9)) {
        return -1;
    }
    options->dict_size = GROUP_BYTES_MOST;
    options->lc = 3;
    options->lp = 0;
    options->pb = 2;
    options->nice_len = 128; /* the encoder's own affair: 0.2 % smaller than by the 64 of the preset */
    return 0;
}

struct group_encoder {
    enum codec codec;
    ZSTD_CCtx *zstd;
};

group_encoder *group_encoder_new(enum codec codec, int level, const codec_dictionary *dictionary) {
    group_encoder *encoder = calloc(1, sizeof *encoder);
    if (encoder == NULL) {
        return NULL;
    }
    encoder->codec = codec;
    if (codec != CODEC_GROUP_LZMA) {
        encoder->zstd = ZSTD_createCCtx();
        if (encoder->zstd == NULL || codec_prepare_frames(encoder->zstd) ||
            ZSTD_isError(
                ZSTD_CCtx_setParameter(encoder->zstd, ZSTD_c_compressionLevel, level)) ||
            (codec == CODEC_GROUP_DICTIONARY &&
             ZSTD_isError(ZSTD_CCtx_refCDict(encoder->zstd,
                                             codec_dictionary_compress(dictionary))))) {
            group_encoder_free(encoder);
            return NULL;
        }
    }
    return encoder;
}

void group_encoder_free(group_encoder *encoder) {
    if (encoder != NULL) {
        ZSTD_freeCCtx(encoder->zstd);
        free(encoder);
    }
}

static size_t encode_lzma(const uint8_t *pages, size_t bytes, uint8_t *out, size_t capacity) {
    lzma_options_lzma options;
    if (lzma_settings(&options)) {
        return 0;
    }
    lzma_filter filters[] = {{LZMA_FILTER_LZMA1, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    size_t written = 0;
    return lzma_raw_buffer_encode(filters, NULL, pages, bytes, out, &written, capacity) == LZMA_OK
               ? written
               : 0;
}

size_t group_encode(group_encoder *encoder, const uint8_t *pages, unsigned count, uint8_t *out,
                    size_t capacity) {
    size_t bytes = (size_t)count * PAGE_BYTES;
    if (count == 0 || count > GROUP_PAGES_MOST) {
        return 0;
    }
    if (encoder->codec == CODEC_GROUP_LZMA) {
        return encode_lzma(pages, bytes, out, capacity);
    }
    size_t written = ZSTD_compress2(encoder->zstd, out, capacity, pages, bytes);
    if (ZSTD_isError(written)) {
        ZSTD_CCtx_reset(encoder->zstd, ZSTD_reset_session_only);
        return 0;
    }
    return written;
}

struct group_decoder {
    const codec_dictionary *dictionary;
    ZSTD_DCtx *zstd;
    lzma_stream lzma; /* keeps its memory from group to group */
};

group_decoder *group_decoder_new(void) {
    return calloc(1, sizeof(group_decoder)); /* LZMA_STREAM_INIT is all zeros */
}

void group_decoder_free(group_decoder *decoder) {
    if (decoder != NULL) {
        ZSTD_freeDCtx(decoder->zstd);
        lzma_end(&decoder->lzma);
        free(decoder);
    }
}

void group_decoder_use(group_decoder *decoder, const codec_dictionary *dictionary) {
    decoder->dictionary = dictionary;
}

static unsigned decode_zstd(group_decoder *decoder, const codec_dictionary *dictionary,
                            const uint8_t *payload, size_t length, unsigned count,
                            uint8_t *pages) {
    if (!codec_is_frame(payload, length)) {
        return 0;
    }
    if (decoder->zstd == NULL) {
        decoder->zstd = ZSTD_createDCtx();
        if (decoder->zstd != NULL &&
            ZSTD_isError(
                ZSTD_DCtx_setParameter(decoder->zstd, ZSTD_d_format, ZSTD_f_zstd1_magicless))) {
            ZSTD_freeDCtx(decoder->zstd);
            decoder->zstd = NULL;
        }
        if (decoder->zstd == NULL) {
            return 0;
        }
    }
    /* A frame made without a dictionary is not to begin with another's offsets and tables. */
    if (ZSTD_isError(ZSTD_DCtx_refDDict(
            decoder->zstd, dictionary == NULL ? NULL : codec_dictionary_decompress(dictionary)))) {
        return 0;
    }
    size_t bytes = (size_t)count * PAGE_BYTES;
    return ZSTD_decompressDCtx(decoder->zstd, pages, bytes, payload, length) == bytes ? count : 0;
}

static unsigned decode_lzma(group_decoder *decoder, const uint8_t *payload, size_t length,
                            unsigned wanted, uint8_t *pages) {
    lzma_options_lzma options;
    if (lzma_settings(&options)) {
        return 0;
    }
    const lzma_filter filters[] = {{LZMA_FILTER_LZMA1, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    lzma_stream *stream = &decoder->lzma;
    if (lzma_raw_decoder(stream, filters) != LZMA_OK) {
        return 0;
    }
    stream->next_in = payload;
    stream->avail_in = length;
    stream->next_out = pages;
    stream->avail_out = (size_t)wanted * PAGE_BYTES;
    lzma_ret status = LZMA_OK;
    while (status == LZMA_OK && stream->avail_out != 0) {
        size_t left = stream->avail_in + stream->avail_out;
        status = lzma_code(stream, LZMA_RUN);
        if (stream->avail_in + stream->avail_out == left) {
            break; /* the payload ends too early */
        }
    }
    return stream->avail_out == 0 ? wanted : 0;
}

unsigned group_decode(group_decoder *decoder, enum codec codec, const uint8_t *payload,
                      size_t length, unsigned count, unsigned wanted, uint8_t *pages) {
    if (count == 0 || count > GROUP_PAGES_MOST || wanted > count) {
        return 0;
    }
    switch (codec) {
    case CODEC_GROUP_ZSTD:
        return decode_zstd(decoder, NULL, payload, length, count, pages);
    case CODEC_GROUP_DICTIONARY:
        return decoder->dictionary == NULL
                   ? 0
                   : decode_zstd(decoder, decoder->dictionary, payload, length, count, pages);
    case CODEC_GROUP_LZMA:
        return decode_lzma(decoder, payload, length, wanted, pages);
    default:
        return 0;
    }
}
