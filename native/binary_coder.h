/* An adaptive binary range coder: counters learn how likely each decision is, and an interval of
 * numbers narrows with every decision. What is coded, and in which contexts, is its user's matter;
 * the arithmetic is described in docs/store-format.md. */
#ifndef DIFFFS_BINARY_CODER_H
#define DIFFFS_BINARY_CODER_H

#include <stddef.h>
#include <stdint.h>

/* ---------------------------------------------------------------------------- counters ---- */

enum {
    SEEN_MAXIMUM = 16, /* afterwards a counter forgets as fast as it learns */
    WEIGHT_MAXIMUM = 9,
    PROBABILITY_MINIMUM = 32, /* of 65,536 */
};

/* How often a decision has been "no" in a context: a probability of 16 bits. */
struct counter {
    uint16_t no;
    uint16_t seen;
};

/* 65,536 / (seen + 1.6): nearly the mean of all that was seen, a little less sure of itself. */
#define RATE(seen) (655360u / (10u * (seen) + 16u))
static const uint32_t rates[SEEN_MAXIMUM + 1] = {
    RATE(0),  RATE(1),  RATE(2),  RATE(3),  RATE(4),  RATE(5),  RATE(6),  RATE(7),  RATE(8),
    RATE(9),  RATE(10), RATE(11), RATE(12), RATE(13), RATE(14), RATE(15), RATE(16),
};

static inline void learn(struct counter *counter, unsigned bit) {
    uint32_t flip = (bit - 1u) & 0xffffu; /* after a "no" it is what is missing that shrinks */
    uint32_t distance = counter->no ^ flip;
    distance -= distance * rates[counter->seen] >> 16;
    counter->no = (uint16_t)(distance ^ flip);
    counter->seen = (uint16_t)(counter->seen + (counter->seen < SEEN_MAXIMUM));
}

static inline uint32_t weight_of(const struct counter *counter) {
    uint32_t weight = 2u * counter->seen + 1u;
    return weight < WEIGHT_MAXIMUM ? weight : WEIGHT_MAXIMUM;
}

/* Within what the coder can express, and never certain. */
static inline uint32_t bounded(uint32_t no) {
    if (no < PROBABILITY_MINIMUM) {
        return PROBABILITY_MINIMUM;
    }
    return no > 65536u - PROBABILITY_MINIMUM ? 65536u - PROBABILITY_MINIMUM : no;
}

/* ----------------------------------------------------------------------------- encoder ---- */

/* As in LZMA: a carry runs through the bytes held back, which are one byte and then 0xff's. */
struct encoder {
    uint64_t low;
    uint32_t range;
    uint8_t held;
    size_t held_count; /* 0: nothing yet */
    uint8_t *out;
    size_t capacity;
    size_t position;
    size_t length; /* without the zeros at the end, which go without saying; may pass capacity */
};

static inline void encoder_init(struct encoder *encoder, uint8_t *out, size_t capacity) {
    *encoder = (struct encoder){.range = UINT32_MAX, .out = out, .capacity = capacity};
}

static inline void encoder_put(struct encoder *encoder, uint8_t byte) {
    if (encoder->position < encoder->capacity) {
        encoder->out[encoder->position] = byte;
    }
    encoder->position++;
    if (byte != 0) {
        encoder->length = encoder->position;
    }
}

static inline void encoder_shift(struct encoder *encoder) {
    /* No carry can reach the very first byte: all numbers of the range are below one. */
    if (encoder->low < UINT32_C(0xff000000) || encoder->low > UINT32_MAX ||
        encoder->held_count == 0) {
        uint8_t carry = (uint8_t)(encoder->low >> 32);
        if (encoder->held_count > 0) {
            encoder_put(encoder, (uint8_t)(encoder->held + carry));
            while (--encoder->held_count > 0) {
                encoder_put(encoder, (uint8_t)(0xffu + carry));
            }
        }
        encoder->held = (uint8_t)(encoder->low >> 24);
    }
    encoder->held_count++;
    encoder->low = (encoder->low & UINT32_C(0x00ffffff)) << 8;
}

static inline void encode_bit(struct encoder *encoder, uint32_t no, unsigned bit) {
    uint32_t bound = (uint32_t)(((uint64_t)encoder->range * no) >> 16);
    uint32_t mask = 0u - bit; /* no branch: nobody could predict it */
    encoder->low += bound & mask;
    encoder->range = bound + ((encoder->range - 2u * bound) & mask);
    while (encoder->range < UINT32_C(1) << 24) {
        encoder->range <<= 8;
        encoder_shift(encoder);
    }
}

/* Of all numbers in the range the one with the most zeros at its end. */
static inline void encoder_finish(struct encoder *encoder) {
    uint64_t last = encoder->low + encoder->range - 1u;
    for (unsigned zeros = 32; zeros-- > 0;) {
        uint64_t mask = (UINT64_C(1) << zeros) - 1u;
        uint64_t number = (encoder->low + mask) & ~mask;
        if (number <= last) {
            encoder->low = number;
            break;
        }
    }
    for (int i = 0; i < 5; i++) {
        encoder_shift(encoder);
    }
}

/* ----------------------------------------------------------------------------- decoder ---- */

struct decoder {
    uint32_t range;
    uint32_t number;
    const uint8_t *next;
    const uint8_t *end;
};

static inline uint8_t decoder_get(struct decoder *decoder) {
    return decoder->next < decoder->end ? *decoder->next++ : 0;
}

static inline void decoder_init(struct decoder *decoder, const uint8_t *code, size_t length) {
    *decoder = (struct decoder){.range = UINT32_MAX, .next = code, .end = code + length};
    for (int i = 0; i < 4; i++) {
        decoder->number = decoder->number << 8 | decoder_get(decoder);
    }
}

static inline unsigned decode_bit(struct decoder *decoder, uint32_t no) {
    uint32_t bound = (uint32_t)(((uint64_t)decoder->range * no) >> 16);
    unsigned bit = decoder->number >= bound;
    if (bit) {
        decoder->number -= bound;
        decoder->range -= bound;
    } else {
        decoder->range = bound;
    }
    while (decoder->range < UINT32_C(1) << 24) {
        decoder->range <<= 8;
        decoder->number = decoder->number << 8 | decoder_get(decoder);
    }
    return bit;
}

/* An encoder neither leaves bytes over nor ends with zeros. */
static inline int decoder_is_done(const struct decoder *decoder, size_t length) {
    return decoder->next == decoder->end && (length == 0 || decoder->end[-1] != 0);
}

#endif
