/* Adaptive binary range coder for move-to-front ranks: see range_coder.h. */
#include "range_coder.h"

#include <string.h>

/* ------------------------------------------------------------------------ probabilities ---- */

enum {
    CLASSES = 9,          /* of ranks above zero: 1, 2, 3..4, ..., 65..128, 129..255 */
    KINDS = 8,            /* of a neighbouring rank, see kind_of */
    RUNS = 10,            /* of the zeros just before, see run_of */
    HISTORIES = 256,      /* of the last four ranks, two bits each */
    SEEN_MAXIMUM = 16,    /* afterwards a counter forgets as fast as it learns */
    SEEN_PLACE = 16,      /* places in a class are nearly random: their counters start inert */
    WEIGHT_MAXIMUM = 9,
    PROBABILITY_MINIMUM = 32, /* of 65,536 */
};

/* How often a decision has been "no" in a context: a probability of 16 bits. */
struct counter {
    uint16_t no;
    uint16_t seen;
};

struct model {
    struct counter zero_after_run[RUNS][KINDS];
    struct counter zero_after_history[HISTORIES];
    struct counter zero[1];
    struct counter class_after_kinds[CLASSES][KINDS][KINDS];
    struct counter class_after_run[CLASSES][RUNS];
    struct counter class[CLASSES];
    struct counter place[CLASSES][128];
};

static void model_init(struct model *model) {
    const struct counter fresh = {32768, 0};
    const struct counter inert = {32768, SEEN_PLACE};
    struct counter *counter = (struct counter *)model;
    struct counter *places = &model->place[0][0];
    while (counter < places) {
        *counter++ = fresh;
    }
    while (counter < (struct counter *)(model + 1)) {
        *counter++ = inert;
    }
}

/* 65,536 / (seen + 1.6): nearly the mean of all that was seen, a little less sure of itself. */
#define RATE(seen) (655360 / (10 * (seen) + 16))
static const int32_t rates[SEEN_MAXIMUM + 1] = {
    RATE(0),  RATE(1),  RATE(2),  RATE(3),  RATE(4),  RATE(5),  RATE(6),  RATE(7),  RATE(8),
    RATE(9),  RATE(10), RATE(11), RATE(12), RATE(13), RATE(14), RATE(15), RATE(16),
};

static void learn(struct counter *counter, unsigned bit) {
    /* Below 2^31 in all: a counter that has seen nothing stands in the middle. */
    int32_t target = bit ? 0 : 65535;
    counter->no = (uint16_t)(counter->no +
                             (target - (int32_t)counter->no) * rates[counter->seen] / 65536);
    counter->seen = (uint16_t)(counter->seen + (counter->seen < SEEN_MAXIMUM));
}

static uint32_t weight_of(const struct counter *counter) {
    uint32_t weight = 2u * counter->seen + 1u;
    return weight < WEIGHT_MAXIMUM ? weight : WEIGHT_MAXIMUM;
}

/* Within what the coder can express, and never certain. */
static uint32_t bounded(uint32_t no) {
    if (no < PROBABILITY_MINIMUM) {
        return PROBABILITY_MINIMUM;
    }
    return no > 65536u - PROBABILITY_MINIMUM ? 65536u - PROBABILITY_MINIMUM : no;
}

static uint32_t probability_of_three(const struct counter *a, const struct counter *b,
                                     const struct counter *c) {
    uint32_t of_a = weight_of(a), of_b = weight_of(b), of_c = weight_of(c);
    uint32_t sum = of_a * a->no + of_b * b->no + of_c * c->no;
    return bounded(sum / (of_a + of_b + of_c));
}

/* ---------------------------------------------------------------------------- contexts ---- */

struct history {
    unsigned run;  /* zeros just before */
    unsigned last; /* kinds of the last two ranks above zero */
    unsigned before;
    unsigned recent; /* the last four ranks, two bits each */
};

static unsigned bits_of(unsigned number) {
    return number == 0 ? 0u : 32u - (unsigned)__builtin_clz(number);
}

/* 0; 1; 2; 3, 4; 5..8; 9..16; 17..64; above. */
static unsigned kind_of(unsigned rank) {
    unsigned kind = rank == 0 ? 0u : bits_of(rank - 1u) + 1u;
    return kind < 6u ? kind : rank <= 64u ? 6u : 7u;
}

/* 0; 1; 2; 3; 4, 5; 6..8; 9..16; 17..32; 33..64; above. */
static unsigned run_of(unsigned run) {
    if (run < 4u) {
        return run;
    }
    if (run <= 8u) {
        return run < 6u ? 4u : 5u;
    }
    unsigned bits = bits_of(run - 1u);
    return bits < 7u ? bits + 2u : 9u;
}

static void remember(struct history *history, unsigned rank) {
    static const uint8_t summary[4] = {0, 1, 2, 2};
    if (rank == 0) {
        history->run++;
    } else {
        history->before = history->last;
        history->last = kind_of(rank);
        history->run = 0;
    }
    history->recent = (history->recent << 2 | (rank < 4u ? summary[rank] : 3u)) & 0xffu;
}

static unsigned class_of(unsigned rank) { return bits_of(rank - 1u); }

/* The smallest rank of a class, and how many bits tell the place in it. */
static unsigned first_of(unsigned class) { return class < 2u ? class + 1u : (1u << (class - 1u)) + 1u; }
static unsigned place_bits(unsigned class) { return class < 2u ? 0u : class - 1u; }

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
    size_t length; /* without the zeros at the end, which go without saying */
};

static void put(struct encoder *encoder, uint8_t byte) {
    if (encoder->position < encoder->capacity) {
        encoder->out[encoder->position] = byte;
    }
    encoder->position++;
    if (byte != 0) {
        encoder->length = encoder->position;
    }
}

static void shift(struct encoder *encoder) {
    /* No carry can reach the very first byte: all numbers of the range are below one. */
    if (encoder->low < UINT32_C(0xff000000) || encoder->low > UINT32_MAX ||
        encoder->held_count == 0) {
        uint8_t carry = (uint8_t)(encoder->low >> 32);
        if (encoder->held_count > 0) {
            put(encoder, (uint8_t)(encoder->held + carry));
            while (--encoder->held_count > 0) {
                put(encoder, (uint8_t)(0xffu + carry));
            }
        }
        encoder->held = (uint8_t)(encoder->low >> 24);
    }
    encoder->held_count++;
    encoder->low = (encoder->low & UINT32_C(0x00ffffff)) << 8;
}

static void encode_bit(struct encoder *encoder, uint32_t no, unsigned bit) {
    uint32_t bound = (uint32_t)(((uint64_t)encoder->range * no) >> 16);
    if (bit) {
        encoder->low += bound;
        encoder->range -= bound;
    } else {
        encoder->range = bound;
    }
    while (encoder->range < UINT32_C(1) << 24) {
        encoder->range <<= 8;
        shift(encoder);
    }
}

static void encode_with_three(struct encoder *encoder, struct counter *a, struct counter *b,
                              struct counter *c, unsigned bit) {
    encode_bit(encoder, probability_of_three(a, b, c), bit);
    learn(a, bit);
    learn(b, bit);
    learn(c, bit);
}

/* Of all numbers in the range the one with the most zeros at its end. */
static void finish(struct encoder *encoder) {
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
        shift(encoder);
    }
}

long range_encode(const uint8_t *ranks, size_t count, uint8_t *out, size_t capacity) {
    struct model model;
    struct history history = {0};
    struct encoder encoder = {.range = UINT32_MAX, .out = out, .capacity = capacity};
    model_init(&model);
    for (size_t i = 0; i < count && encoder.length <= capacity; i++) {
        unsigned rank = ranks[i];
        unsigned run = run_of(history.run);
        encode_with_three(&encoder, &model.zero_after_run[run][history.last],
                          &model.zero_after_history[history.recent], model.zero, rank != 0);
        if (rank != 0) {
            unsigned class = class_of(rank);
            for (unsigned k = 0; k + 1u < CLASSES; k++) {
                encode_with_three(&encoder, &model.class_after_kinds[k][history.last][history.before],
                                  &model.class_after_run[k][run], &model.class[k], k != class);
                if (k == class) {
                    break;
                }
            }
            unsigned place = rank - first_of(class);
            unsigned node = 1;
            for (unsigned bits = place_bits(class); bits-- > 0;) {
                unsigned bit = place >> bits & 1u;
                struct counter *counter = &model.place[class][node];
                encode_bit(&encoder, bounded(counter->no), bit);
                learn(counter, bit);
                node = 2u * node + bit;
            }
        }
        remember(&history, rank);
    }
    finish(&encoder);
    return encoder.length <= capacity ? (long)encoder.length : -1;
}

/* ----------------------------------------------------------------------------- decoder ---- */

struct decoder {
    uint32_t range;
    uint32_t number;
    const uint8_t *next;
    const uint8_t *end;
};

static uint8_t get(struct decoder *decoder) {
    return decoder->next < decoder->end ? *decoder->next++ : 0;
}

static unsigned decode_bit(struct decoder *decoder, uint32_t no) {
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
        decoder->number = decoder->number << 8 | get(decoder);
    }
    return bit;
}

static unsigned decode_with_three(struct decoder *decoder, struct counter *a, struct counter *b,
                                  struct counter *c) {
    unsigned bit = decode_bit(decoder, probability_of_three(a, b, c));
    learn(a, bit);
    learn(b, bit);
    learn(c, bit);
    return bit;
}

int range_decode(const uint8_t *code, size_t length, uint8_t *ranks, size_t count) {
    struct model model;
    struct history history = {0};
    struct decoder decoder = {.range = UINT32_MAX, .next = code, .end = code + length};
    model_init(&model);
    for (int i = 0; i < 4; i++) {
        decoder.number = decoder.number << 8 | get(&decoder);
    }
    for (size_t i = 0; i < count; i++) {
        unsigned rank = 0;
        unsigned run = run_of(history.run);
        if (decode_with_three(&decoder, &model.zero_after_run[run][history.last],
                              &model.zero_after_history[history.recent], model.zero)) {
            unsigned class = 0;
            while (class + 1u < CLASSES &&
                   decode_with_three(
                       &decoder, &model.class_after_kinds[class][history.last][history.before],
                       &model.class_after_run[class][run], &model.class[class])) {
                class++;
            }
            unsigned node = 1;
            for (unsigned bits = place_bits(class); bits-- > 0;) {
                struct counter *counter = &model.place[class][node];
                unsigned bit = decode_bit(&decoder, bounded(counter->no));
                learn(counter, bit);
                node = 2u * node + bit;
            }
            rank = first_of(class) + node - (1u << place_bits(class));
            if (rank > UINT8_MAX) {
                return -1;
            }
        }
        ranks[i] = (uint8_t)rank;
        remember(&history, rank);
    }
    /* An encoder neither leaves bytes over nor ends with zeros. */
    return decoder.next == decoder.end && (length == 0 || decoder.end[-1] != 0) ? 0 : -1;
}
