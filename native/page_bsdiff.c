/* bsdiff made for pages: see page_bsdiff.h.
 *
 * U is the base followed by the page, and an address is a position in U. `distance` is how far
 * back a match reads; the page lies at address 4096, so at distance 4096 it is compared with the
 * same place of the base.
 */
#include "page_bsdiff.h"

#include <string.h>

#include "symbol_coder.h"

#define PAGE PAGE_BSDIFF_PAGE_SIZE
#define U_SIZE (2 * PAGE)
#define SLACK 8 /* bytes after U, so that 8 bytes can be loaded at any address */

enum {
    WORD = 4, /* bytes that are hashed */
    HASH_BITS = 12,
    HASH_SIZE = 1 << HASH_BITS,
    BASE_STEP = 4, /* of the base each so-manyth address is found: the rest is extended backward */
    NO_ADDRESS = 0xffff,
    CHAIN_TRIES = 3,   /* candidates of one hash that are looked at */
    GAIN_MINIMUM = 5,  /* bytes that another match must have right and the last one wrong */
    BACKWARD_LOSS = 8, /* bytes more wrong than right that end the extension of a match */
};

/* ----------------------------------------------------------------------------- triples ---- */

/* A part of the page: `diff` bytes like those `distance` before them, then `extra` others. */
struct triple {
    uint16_t diff;
    uint16_t extra;
    uint16_t distance;
};

/* ------------------------------------------------------------------------------- model ---- */

enum {
    GROUP = 8,       /* bytes that are marked as unchanged at once: a word of the page */
    GROUP_PAST = 16, /* whether the last four groups changed */
    NEIGHBOURS = 32, /* the upper five bits of a byte that is known */
};

enum field { DIFF, EXTRA, SEEK, FIELDS };

/* The bits of a number. */
struct number_model {
    struct counter high[SYMBOLS][4]; /* the two below the highest */
    struct counter low[8];           /* the lowest three, of those that are left */
};

struct decisions {
    struct number_model numbers[FIELDS];
    struct counter is_backward[1];
    struct counter is_group_changed[GROUP_PAST];
};

/* A byte: its upper four bits, then its lower ones, in a context for each upper ones. */
struct byte_model {
    struct symbol_counter at[GROUP][1 + SYMBOLS]; /* by the place in its word */
    struct symbol_counter by[NEIGHBOURS][1 + SYMBOLS];
};

struct symbols {
    struct symbol_counter bits[FIELDS]; /* how many a number has */
    /* Which bytes of a changed group are: its first four, then the others. */
    struct symbol_counter first_changes[1], last_changes[SYMBOLS];
    struct byte_model differences, extras;
};

struct page_bsdiff_workspace {
    uint8_t u[U_SIZE + SLACK];
    uint16_t head[HASH_SIZE]; /* the address entered last for each hash of a word */
    uint16_t older[U_SIZE];   /* the one entered before it, by address */
    struct triple triples[PAGE];
    struct decisions decisions;
    struct symbols symbols;
};

size_t page_bsdiff_workspace_size(void) { return sizeof(page_bsdiff_workspace); }

static void models_init(page_bsdiff_workspace *ws) {
    const struct counter fresh = {32768, 0};
    for (struct counter *counter = (struct counter *)&ws->decisions;
         counter < (struct counter *)(&ws->decisions + 1); counter++) {
        *counter = fresh;
    }
    for (struct symbol_counter *counter = (struct symbol_counter *)&ws->symbols;
         counter < (struct symbol_counter *)(&ws->symbols + 1); counter++) {
        *counter = fresh_symbols;
    }
}

/* ---------------------------------------------------------------------- both directions ---- */

/* The functions below describe a patch once: each takes what is to be written and returns it, or
 * takes anything and returns what is read. `is_decoder` is a constant wherever they are used. */
struct coder {
    struct encoder encoder;
    struct decoder decoder;
};

#define BOTH static inline __attribute__((always_inline))

BOTH unsigned decide(struct coder *coder, int is_decoder, uint32_t no, unsigned bit) {
    if (is_decoder) {
        return decode_bit(&coder->decoder, no);
    }
    encode_bit(&coder->encoder, no, bit);
    return bit;
}

BOTH unsigned decide_by_one(struct coder *coder, int is_decoder, struct counter *counter,
                            unsigned bit) {
    bit = decide(coder, is_decoder, bounded(counter->no), bit);
    learn(counter, bit);
    return bit;
}

/* By the mean of two counters, each of which learns; they may be the same. */
BOTH unsigned choose(struct coder *coder, int is_decoder, struct symbol_counter *a,
                     struct symbol_counter *b, unsigned symbol) {
    uint16_t below[SYMBOLS];
    for (unsigned s = 0; s < SYMBOLS; s++) {
        below[s] = (uint16_t)(a->below[s] + b->below[s]);
    }
    if (is_decoder) {
        symbol = decode_symbol(&coder->decoder, below);
    } else {
        encode_symbol(&coder->encoder, below, symbol);
    }
    learn_symbol(a, symbol);
    if (a != b) {
        learn_symbol(b, symbol);
    }
    return symbol;
}

static unsigned bits_of(unsigned number) {
    return number == 0 ? 0u : 32u - (unsigned)__builtin_clz(number);
}

/* 0 to 32,767. */
BOTH unsigned code_number(struct coder *coder, int is_decoder, page_bsdiff_workspace *ws,
                          enum field field, unsigned number) {
    struct symbol_counter *of_bits = &ws->symbols.bits[field];
    struct number_model *model = &ws->decisions.numbers[field];
    unsigned bits = choose(coder, is_decoder, of_bits, of_bits, bits_of(number));
    if (bits < 2u) {
        return bits;
    }
    unsigned left = bits - 1u, node = 1;
    for (unsigned count = left < 2u ? left : 2u; count > 0; count--) {
        left--;
        node = 2u * node + decide_by_one(coder, is_decoder, &model->high[bits][node],
                                         number >> left & 1u);
    }
    while (left > 3u) {
        left--;
        node = 2u * node + decide(coder, is_decoder, 32768, number >> left & 1u);
    }
    unsigned low = 1;
    while (left > 0) {
        left--;
        unsigned bit = decide_by_one(coder, is_decoder, &model->low[low], number >> left & 1u);
        low = 2u * low + bit;
        node = 2u * node + bit;
    }
    return node;
}

BOTH uint8_t code_byte(struct coder *coder, int is_decoder, struct byte_model *model,
                       unsigned address, uint8_t neighbour, uint8_t byte) {
    struct symbol_counter *at = model->at[address % GROUP];
    struct symbol_counter *by = model->by[neighbour / (256 / NEIGHBOURS)];
    unsigned upper = choose(coder, is_decoder, at, by, byte / SYMBOLS);
    unsigned lower =
        choose(coder, is_decoder, &at[1 + upper], &by[1 + upper], byte % SYMBOLS);
    return (uint8_t)(upper * SYMBOLS + lower);
}

static uint64_t load_8(const uint8_t *from) {
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* Whether two words agree in their first `size` bytes (1 to 8). */
static int are_equal(const uint8_t *a, const uint8_t *b, unsigned size) {
    return (load_8(a) ^ load_8(b)) << (8u * (8u - size)) == 0;
}

/* `size` bytes at `address`, within a group, like those at `from`. `past` tells which of the last
 * groups changed. */
BOTH void code_group(struct coder *coder, int is_decoder, page_bsdiff_workspace *ws, unsigned *past,
                     unsigned address, unsigned from, unsigned size) {
    struct symbols *symbols = &ws->symbols;
    uint8_t *u = ws->u;
    unsigned is_changed =
        decide_by_one(coder, is_decoder, &ws->decisions.is_group_changed[*past],
                      is_decoder ? 0 : !are_equal(u + address, u + from, size));
    *past = (*past << 1 | is_changed) % GROUP_PAST;
    if (!is_changed) {
        if (is_decoder) {
            for (unsigned i = 0; i < size; i++) { /* it may read what it has just written */
                u[address + i] = u[from + i];
            }
        }
        return;
    }
    unsigned changes = 0, end = address + size; /* a bit for each place in the word */
    for (unsigned i = 0; !is_decoder && i < size; i++) {
        changes |= (unsigned)(u[address + i] != u[from + i]) << (address + i) % GROUP;
    }
    unsigned first = choose(coder, is_decoder, symbols->first_changes, symbols->first_changes,
                            changes % SYMBOLS);
    unsigned last = choose(coder, is_decoder, &symbols->last_changes[first],
                           &symbols->last_changes[first], changes / SYMBOLS);
    changes = last * SYMBOLS + first;
    for (; address < end; address++, from++) {
        uint8_t old = u[from];
        uint8_t difference = 0;
        if (changes >> address % GROUP & 1u) {
            difference = code_byte(coder, is_decoder, &symbols->differences, address, old,
                                   (uint8_t)(u[address] - old));
        }
        if (is_decoder) {
            u[address] = (uint8_t)(old + difference);
        }
    }
}

/* The whole patch. Returns 0, or -1 when it is malformed or exceeds the encoder's capacity. */
BOTH int code_page(struct coder *coder, int is_decoder, page_bsdiff_workspace *ws) {
    uint8_t *u = ws->u;
    const struct triple *triple = ws->triples;
    unsigned past = 0, distance = PAGE;
    models_init(ws);
    for (unsigned address = PAGE; address < U_SIZE; triple++) {
        unsigned diff = code_number(coder, is_decoder, ws, DIFF, triple->diff);
        unsigned extra = code_number(coder, is_decoder, ws, EXTRA, triple->extra);
        if (is_decoder &&
            (diff > U_SIZE - address || extra > U_SIZE - address - diff || diff + extra == 0)) {
            return -1;
        }
        if (diff > 0) {
            unsigned is_backward = triple->distance > distance;
            unsigned seek = code_number(coder, is_decoder, ws, SEEK,
                                        is_backward ? (unsigned)triple->distance - distance
                                                    : distance - triple->distance);
            if (seek > 0) {
                is_backward =
                    decide_by_one(coder, is_decoder, ws->decisions.is_backward, is_backward);
            }
            distance = is_backward ? distance + seek : distance - seek;
            if (is_decoder && (distance == 0 || distance > address)) { /* also when below zero */
                return -1;
            }
        }
        for (unsigned end = address + diff; address < end;) {
            unsigned size = GROUP - address % GROUP;
            size = size < end - address ? size : end - address;
            code_group(coder, is_decoder, ws, &past, address, address - distance, size);
            address += size;
        }
        for (unsigned end = address + extra; address < end; address++) {
            u[address] = code_byte(coder, is_decoder, &ws->symbols.extras, address, u[address - 1],
                                   u[address]);
        }
        if (!is_decoder && coder->encoder.length > coder->encoder.capacity) {
            return -1;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------------------- matching ---- */

static uint32_t load_4(const uint8_t *from) {
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

static unsigned hash_word(uint32_t word) { return (word * 2654435761u) >> (32 - HASH_BITS); }

static void enter(page_bsdiff_workspace *ws, unsigned address) {
    uint16_t *head = &ws->head[hash_word(load_4(ws->u + address))];
    ws->older[address] = *head;
    *head = (uint16_t)address;
}

/* Enters the words of the base, the first one last, so that it is found first. */
static void enter_base(page_bsdiff_workspace *ws) {
    for (unsigned address = PAGE; address > 0;) {
        address -= BASE_STEP;
        enter(ws, address);
    }
}

static unsigned equal_bytes(const uint8_t *a, const uint8_t *b, unsigned limit) {
    unsigned size = 0;
    for (; size < limit; size += 8) {
        uint64_t differing = load_8(a + size) ^ load_8(b + size);
        if (differing) {
            size += (unsigned)__builtin_ctzll(differing) / 8u;
            break;
        }
    }
    return size < limit ? size : limit;
}

/* How many of the first `size` bytes are the same. */
static unsigned count_equal(const uint8_t *a, const uint8_t *b, unsigned size) {
    const uint64_t sevens = UINT64_C(0x7f7f7f7f7f7f7f7f);
    unsigned count = 0;
    for (unsigned done = 0; done < size; done += 8) {
        uint64_t differing = load_8(a + done) ^ load_8(b + done);
        uint64_t same = ~(((differing & sevens) + sevens) | differing | sevens);
        if (size - done < 8) {
            same <<= 8u * (8u - (size - done));
        }
        count += (unsigned)((same >> 7) * UINT64_C(0x0101010101010101) >> 56);
    }
    return count;
}

struct match {
    unsigned address, size;
    int gain;
};

/* The exact match at `here` that has most bytes right which the match at `distance` has wrong. */
static struct match find(const page_bsdiff_workspace *ws, unsigned here, unsigned distance) {
    const uint8_t *u = ws->u;
    struct match best = {0, 0, GAIN_MINIMUM - 1};
    uint32_t word = load_4(u + here);
    unsigned address = ws->head[hash_word(word)];
    for (int tries = CHAIN_TRIES; tries > 0 && address != NO_ADDRESS; tries--) {
        if (load_4(u + address) == word) {
            unsigned size = equal_bytes(u + address, u + here, U_SIZE - here);
            if ((int)size > best.gain) {
                int gain = (int)(size - count_equal(u + here - distance, u + here, size));
                if (gain > best.gain) {
                    best = (struct match){address, size, gain};
                }
            }
        }
        address = ws->older[address];
    }
    return best;
}

/* The length up to `limit` at which a match at `distance` has most bytes right rather than wrong. */
static unsigned extend_forward(const uint8_t *u, unsigned address, unsigned distance,
                               unsigned limit) {
    const uint8_t *page = u + address, *like = page - distance;
    int score = 0, best = 0;
    unsigned length = 0;
    for (unsigned i = 0; i < limit;) {
        unsigned same = equal_bytes(page + i, like + i, limit - i);
        i += same;
        score += (int)same;
        if (score > best) {
            best = score;
            length = i;
        }
        for (; i < limit && page[i] != like[i]; i++) {
            score--;
        }
    }
    return length;
}

static unsigned extend_backward(const uint8_t *u, unsigned address, unsigned distance,
                                unsigned limit) {
    const uint8_t *page = u + address, *like = page - distance;
    limit = limit < address - distance ? limit : address - distance;
    int score = 0, best = 0;
    unsigned length = 0;
    for (unsigned i = 1; i <= limit; i++) {
        score += *(page - i) == *(like - i) ? 1 : -1;
        if (score > best) {
            best = score;
            length = i;
        } else if (best - score > BACKWARD_LOSS) {
            break; /* it takes long to look further, and hardly ever pays */
        }
    }
    return length;
}

/* Of `overlap` bytes from `address` on that two matches claim, how many the first one has best. */
static unsigned divide(const uint8_t *u, unsigned address, unsigned first, unsigned second,
                       unsigned overlap) {
    int score = 0, best = 0;
    unsigned length = 0;
    for (unsigned i = 0; i < overlap; i++) {
        uint8_t byte = u[address + i];
        score += (u[address + i - first] == byte) - (u[address + i - second] == byte);
        if (score > best) {
            best = score;
            length = i + 1;
        }
    }
    return length;
}

static void find_triples(page_bsdiff_workspace *ws) {
    const uint8_t *u = ws->u;
    struct triple *triple = ws->triples;
    unsigned begin = PAGE, distance = PAGE; /* of the match that goes on */
    unsigned here = PAGE, entered = PAGE;
    memset(ws->head, 0xff, sizeof ws->head); /* NO_ADDRESS everywhere */
    enter_base(ws);
    while (begin < U_SIZE) {
        struct match next = {0, 0, 0};
        while (here < U_SIZE) {
            unsigned same = equal_bytes(u + here, u + here - distance, U_SIZE - here);
            if (same > 0) {
                if (same >= WORD) { /* these words are found where they came from */
                    for (; entered < here; entered++) {
                        enter(ws, entered);
                    }
                    entered = here + same - (WORD - 1);
                }
                here += same;
                continue;
            }
            if (here + WORD <= U_SIZE) {
                for (; entered < here; entered++) {
                    enter(ws, entered);
                }
                next = find(ws, here, distance);
                if (next.size > 0) {
                    break;
                }
            }
            here++;
        }
        unsigned diff = extend_forward(u, begin, distance, here - begin);
        unsigned end = here; /* where the next match begins */
        unsigned next_distance = here - next.address;
        if (here < U_SIZE) {
            end -= extend_backward(u, here, next_distance, here - begin);
            if (begin + diff > end) {
                diff = end - begin + divide(u, end, distance, next_distance, begin + diff - end);
                end = begin + diff;
            }
        }
        if (end > begin) {
            *triple++ = (struct triple){(uint16_t)diff, (uint16_t)(end - begin - diff),
                                        (uint16_t)distance};
        }
        begin = end;
        distance = next_distance;
        here += next.size;
    }
}

/* -------------------------------------------------------------------------------- patches ---- */

long page_bsdiff_encode(page_bsdiff_workspace *ws, const uint8_t *page, const uint8_t *base,
                        uint8_t *out, size_t capacity) {
    struct coder coder;
    memcpy(ws->u, base, PAGE);
    memcpy(ws->u + PAGE, page, PAGE);
    memset(ws->u + U_SIZE, 0, SLACK);
    find_triples(ws);
    encoder_init(&coder.encoder, out, capacity);
    if (code_page(&coder, 0, ws)) {
        return -1;
    }
    encoder_finish(&coder.encoder);
    return coder.encoder.length <= capacity ? (long)coder.encoder.length : -1;
}

int page_bsdiff_decode(page_bsdiff_workspace *ws, const uint8_t *patch, size_t length,
                       const uint8_t *base, uint8_t *page) {
    struct coder coder;
    memcpy(ws->u, base, PAGE);
    decoder_init(&coder.decoder, patch, length);
    if (code_page(&coder, 1, ws) || !decoder_is_done(&coder.decoder, length)) {
        return -1;
    }
    memcpy(page, ws->u + PAGE, PAGE);
    return 0;
}
