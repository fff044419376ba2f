/* Adaptive binary range coder for move-to-front ranks: see range_coder.h. */
#include "range_coder.h"

#include "binary_coder.h"

/* ------------------------------------------------------------------------ probabilities ---- */

enum {
    CLASSES = 9,     /* of ranks above zero: 1, 2, 3..4, ..., 65..128, 129..255 */
    KINDS = 8,       /* of a neighbouring rank, see kind_of */
    RUNS = 10,       /* of the zeros just before, see run_of */
    HISTORIES = 256, /* of the last four ranks, two bits each */
    /* Places in a class are nearly random: their counters start inert. */
    SEEN_PLACE = SEEN_MAXIMUM,
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

static void encode_with_three(struct encoder *encoder, struct counter *a, struct counter *b,
                              struct counter *c, unsigned bit) {
    encode_bit(encoder, probability_of_three(a, b, c), bit);
    learn(a, bit);
    learn(b, bit);
    learn(c, bit);
}

long range_encode(const uint8_t *ranks, size_t count, uint8_t *out, size_t capacity) {
    struct model model;
    struct history history = {0};
    struct encoder encoder;
    encoder_init(&encoder, out, capacity);
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
    encoder_finish(&encoder);
    return encoder.length <= capacity ? (long)encoder.length : -1;
}

/* ----------------------------------------------------------------------------- decoder ---- */

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
    struct decoder decoder;
    decoder_init(&decoder, code, length);
    model_init(&model);
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
    return decoder_is_done(&decoder, length) ? 0 : -1;
}
