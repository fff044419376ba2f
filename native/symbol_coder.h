/* Symbols of four bits for the range coder of binary_coder.h: one symbol does the work of four
 * decisions in little more than the time of one, since all sixteen sums learn at once. What is
 * coded, and in which contexts, is its user's matter; docs/store-format.md has the arithmetic. */
#ifndef DIFFFS_SYMBOL_CODER_H
#define DIFFFS_SYMBOL_CODER_H

#include "binary_coder.h"

/* ---------------------------------------------------------------------------- counters ---- */

enum {
    SYMBOLS = 16,
    SYMBOL_SEEN_MAXIMUM = 16,
    /* Of 32,768. Rounding off takes less than 2 from a symbol each time, and the least rate of
     * 1/18.5 gives as much back below 64 - 37: no symbol becomes impossible. */
    SYMBOL_MINIMUM = 64,
};

/* How often symbols have come in a context: below[s] is the probability of those less than s, of
 * 15 bits. */
struct symbol_counter {
    int16_t below[SYMBOLS];
    uint16_t seen;
};

#define FRESH(s) ((s) * (32768 / SYMBOLS))
static const struct symbol_counter fresh_symbols = {
    {FRESH(0), FRESH(1), FRESH(2), FRESH(3), FRESH(4), FRESH(5), FRESH(6), FRESH(7), FRESH(8),
     FRESH(9), FRESH(10), FRESH(11), FRESH(12), FRESH(13), FRESH(14), FRESH(15)},
    0,
};

/* 32,768 / (seen + 2.5) */
#define SYMBOL_RATE(seen) (327680 / (10 * (seen) + 25))
static const int16_t symbol_rates[SYMBOL_SEEN_MAXIMUM + 1] = {
    SYMBOL_RATE(0),  SYMBOL_RATE(1),  SYMBOL_RATE(2),  SYMBOL_RATE(3),  SYMBOL_RATE(4),
    SYMBOL_RATE(5),  SYMBOL_RATE(6),  SYMBOL_RATE(7),  SYMBOL_RATE(8),  SYMBOL_RATE(9),
    SYMBOL_RATE(10), SYMBOL_RATE(11), SYMBOL_RATE(12), SYMBOL_RATE(13), SYMBOL_RATE(14),
    SYMBOL_RATE(15), SYMBOL_RATE(16),
};

/* Moves the sums towards what they would be if only `symbol` came. Kept out of line: with nothing
 * around it, compilers take eight sums at a time. */
static __attribute__((noinline)) void move_sums(int16_t *below, int16_t symbol, int16_t rate) {
    for (int16_t s = 0; s < SYMBOLS; s++) {
        int16_t aim = (int16_t)(s > symbol ? 32768 - (SYMBOLS - s) * SYMBOL_MINIMUM
                                           : s * SYMBOL_MINIMUM);
        int16_t distance = (int16_t)(aim - below[s]);
        below[s] = (int16_t)(below[s] + 2 * ((distance * rate) >> 16));
    }
}

static inline void learn_symbol(struct symbol_counter *counter, unsigned symbol) {
    move_sums(counter->below, (int16_t)symbol, symbol_rates[counter->seen]);
    counter->seen = (uint16_t)(counter->seen + (counter->seen < SYMBOL_SEEN_MAXIMUM));
}

/* ------------------------------------------------------------------ encoder and decoder ---- */

/* Both take the probabilities of lesser symbols, of 16 bits: sums of two counters. */

static inline uint32_t bound_of(uint32_t range, const uint16_t *below, unsigned symbol) {
    return symbol < SYMBOLS ? (uint32_t)(((uint64_t)range * below[symbol]) >> 16) : range;
}

static inline void encode_symbol(struct encoder *encoder, const uint16_t *below, unsigned symbol) {
    uint32_t bound = bound_of(encoder->range, below, symbol);
    encoder->range = bound_of(encoder->range, below, symbol + 1u) - bound;
    encoder->low += bound;
    while (encoder->range < UINT32_C(1) << 24) {
        encoder->range <<= 8;
        encoder_shift(encoder);
    }
}

/* The last symbol whose probability is not above `probability`. */
static __attribute__((noinline)) unsigned symbol_at(const uint16_t *below, uint16_t probability) {
    uint16_t count = 0;
    for (unsigned s = 0; s < SYMBOLS; s++) {
        count = (uint16_t)(count + (below[s] <= probability));
    }
    return count - 1u;
}

static inline unsigned decode_symbol(struct decoder *decoder, const uint16_t *below) {
    /* The number is at least `range * below >> 16` for just those `below` up to this one. */
    uint64_t probability = (((uint64_t)decoder->number + 1u) * 65536u - 1u) / decoder->range;
    /* In codes that no encoder makes the number can lie beyond the range. */
    unsigned symbol = symbol_at(below, probability < 65535u ? (uint16_t)probability : 65535u);
    uint32_t bound = bound_of(decoder->range, below, symbol);
    decoder->range = bound_of(decoder->range, below, symbol + 1u) - bound;
    decoder->number -= bound;
    while (decoder->range < UINT32_C(1) << 24) {
        decoder->range <<= 8;
        decoder->number = decoder->number << 8 | decoder_get(decoder);
    }
    return symbol;
}

#endif
