/* VCDIFF (RFC 3284) page patches: see vcdiff.h for the format of a patch.
 *
 * Words used here are the RFC's: U is the base followed by the page, an address is a position in
 * U, so the page begins at address 4096 and `here` is the address that is encoded next.
 */
#include "vcdiff.h"

#include <string.h>

#define PAGE VCDIFF_PAGE_SIZE
#define U_SIZE (2 * PAGE)
#define SLACK 8 /* bytes after U, so that 8 bytes can be loaded at any address */

/* ---------------------------------------------------------------- the default code table ---- */

enum { NOOP = 0, ADD = 1, RUN = 2, COPY = 3 };

/* Address modes of a COPY (RFC 3284 section 5.3, s_near = 4, s_same = 3). */
enum { NEAR_SLOTS = 4, SAME_SLOTS = 3 * 256 };
enum { MODE_SELF = 0, MODE_HERE = 1, MODE_NEAR = 2, MODE_SAME = MODE_NEAR + NEAR_SLOTS };

/* RUN, then ADD (size 0: the size follows the code; or 1..17), then for each mode COPY (size 0 or
 * 4..18), then the pairs. */
enum {
    CODE_RUN = 0,
    CODE_ADD = 1,
    ADD_SIZE_MAXIMUM = 17,
    CODE_COPY = 19,
    COPY_CODES_PER_MODE = 16,
    COPY_SIZE_MAXIMUM = 18,
    CODE_ADD_COPY = 163,      /* ADD 1..4 and COPY 4..6, modes 0..5 */
    CODE_ADD_COPY_SAME = 235, /* ADD 1..4 and COPY 4, modes 6..8 */
    CODE_COPY_ADD = 247       /* COPY 4 and ADD 1, modes 0..8 */
};

typedef struct {
    uint8_t first, first_size, second, second_size, mode;
} instruction_pair;

#define ADD_1(n) {ADD, n, NOOP, 0, 0}
#define COPY_1(m, n) {COPY, n, NOOP, 0, m}
#define COPIES(m)                                                                                  \
    COPY_1(m, 0), COPY_1(m, 4), COPY_1(m, 5), COPY_1(m, 6), COPY_1(m, 7), COPY_1(m, 8),            \
        COPY_1(m, 9), COPY_1(m, 10), COPY_1(m, 11), COPY_1(m, 12), COPY_1(m, 13), COPY_1(m, 14),   \
        COPY_1(m, 15), COPY_1(m, 16), COPY_1(m, 17), COPY_1(m, 18)
#define ADD_COPY(m, a, c) {ADD, a, COPY, c, m}
#define ADD_COPY_3(m, a) ADD_COPY(m, a, 4), ADD_COPY(m, a, 5), ADD_COPY(m, a, 6)
#define ADD_COPY_12(m) ADD_COPY_3(m, 1), ADD_COPY_3(m, 2), ADD_COPY_3(m, 3), ADD_COPY_3(m, 4)
#define ADD_COPY_4(m) ADD_COPY(m, 1, 4), ADD_COPY(m, 2, 4), ADD_COPY(m, 3, 4), ADD_COPY(m, 4, 4)
#define COPY_ADD(m) {COPY, 4, ADD, 1, m}

static const instruction_pair code_table[256] = {
    {RUN, 0, NOOP, 0, 0},
    ADD_1(0), ADD_1(1), ADD_1(2), ADD_1(3), ADD_1(4), ADD_1(5), ADD_1(6), ADD_1(7), ADD_1(8),
    ADD_1(9), ADD_1(10), ADD_1(11), ADD_1(12), ADD_1(13), ADD_1(14), ADD_1(15), ADD_1(16),
    ADD_1(17),
    COPIES(0), COPIES(1), COPIES(2), COPIES(3), COPIES(4), COPIES(5), COPIES(6), COPIES(7),
    COPIES(8),
    ADD_COPY_12(0), ADD_COPY_12(1), ADD_COPY_12(2), ADD_COPY_12(3), ADD_COPY_12(4),
    ADD_COPY_12(5),
    ADD_COPY_4(6), ADD_COPY_4(7), ADD_COPY_4(8),
    COPY_ADD(0), COPY_ADD(1), COPY_ADD(2), COPY_ADD(3), COPY_ADD(4), COPY_ADD(5), COPY_ADD(6),
    COPY_ADD(7), COPY_ADD(8),
};

/* -------------------------------------------------------------------------- address cache ---- */

typedef struct {
    uint16_t near_addresses[NEAR_SLOTS];
    uint16_t same_addresses[SAME_SLOTS];
    unsigned next_slot;
} address_cache;

static void cache_update(address_cache *cache, unsigned address)
{
    cache->near_addresses[cache->next_slot] = (uint16_t)address;
    cache->next_slot = (cache->next_slot + 1) % NEAR_SLOTS;
    cache->same_addresses[address % SAME_SLOTS] = (uint16_t)address;
}

/* ------------------------------------------------------------------------------- integers ---- */

/* Integers are base 128, most significant digit first, the high bit set on all but the last.
 * What is written here never needs more than three digits. */
static unsigned integer_length(unsigned value)
{
    return value < 128 ? 1 : value < 128 * 128 ? 2 : 3;
}

static uint8_t *put_integer(uint8_t *out, unsigned value)
{
    if (value >= 128 * 128)
        *out++ = (uint8_t)(0x80 | (value >> 14));
    if (value >= 128)
        *out++ = (uint8_t)(0x80 | ((value >> 7) & 0x7f));
    *out++ = (uint8_t)(value & 0x7f);
    return out;
}

/* Bytes not yet consumed of a section. */
typedef struct {
    const uint8_t *next, *end;
} reader;

static size_t left(const reader *in)
{
    return (size_t)(in->end - in->next);
}

/* Returns 0, or -1 when the section ends within the integer or it has more than four digits. */
static int get_integer(reader *in, uint32_t *value)
{
    uint32_t result = 0;
    for (int digits = 0; digits < 4; digits++) {
        if (in->next == in->end)
            return -1;
        const uint8_t byte = *in->next++;
        result = (result << 7) | (byte & 0x7fu);
        if (byte < 0x80) {
            *value = result;
            return 0;
        }
    }
    return -1;
}

/* -------------------------------------------------------------------------------- encoder ---- */

enum {
    HASH_BITS = 12,
    HASH_SIZE = 1 << HASH_BITS,
    NO_ADDRESS = 0xffff,
    CHAIN_TRIES = 16,  /* candidates of one hash that are looked at */
    LONG_ENOUGH = 64,  /* a match or run of this size ends the search */
    LAZY_BELOW = 48,   /* a match shorter than this gives way to a better one a byte later */
    RUN_MINIMUM = 8,
    RUN_LENGTH = 3,    /* what a RUN of 8 to 127 bytes costs: code, size, byte */
    WORD = 4,          /* bytes that are hashed: the shortest COPY */
    /* Each instruction stands for at least as many bytes of the page as it puts into any one
     * section, so no section outgrows a page. */
    SECTION_ROOM = PAGE
};

struct vcdiff_workspace {
    uint8_t u[U_SIZE + SLACK];
    uint16_t head[HASH_SIZE]; /* the address entered last for each hash of a word */
    uint16_t older[U_SIZE];   /* the one entered before it, by address */
    address_cache cache;
    uint8_t data[SECTION_ROOM], instructions[SECTION_ROOM], addresses[SECTION_ROOM];
};

size_t vcdiff_workspace_size(void)
{
    return sizeof(vcdiff_workspace);
}

typedef struct {
    vcdiff_workspace *ws;
    uint8_t *data, *instructions, *addresses; /* where the next byte of a section goes */
    unsigned last_add; /* size of the ADD that the next COPY may be paired with, or 0 */
    int last_copy;     /* mode of the COPY of 4 that an ADD of 1 may be paired with, or -1 */
} writer;

/* The cheapest address mode; `value` is what the addresses section then holds. */
static unsigned choose_mode(const address_cache *cache, unsigned address, unsigned here,
                            unsigned *value)
{
    unsigned best = address, mode = MODE_SELF;
    if (here - address < best) {
        best = here - address;
        mode = MODE_HERE;
    }
    for (unsigned slot = 0; slot < NEAR_SLOTS; slot++) {
        const unsigned distance = address - cache->near_addresses[slot];
        if (distance < best) { /* an address below the slot's wraps around to a large number */
            best = distance;
            mode = MODE_NEAR + slot;
        }
    }
    if (best >= 128 && cache->same_addresses[address % SAME_SLOTS] == address) {
        best = address % 256;
        mode = MODE_SAME + address % SAME_SLOTS / 256;
    }
    *value = best;
    return mode;
}

/* How many bytes choose_mode()'s choice puts into the addresses section. */
static unsigned address_length(const address_cache *cache, unsigned address, unsigned here)
{
    if (address < 128 || here - address < 128)
        return 1;
    for (unsigned slot = 0; slot < NEAR_SLOTS; slot++)
        if (address - cache->near_addresses[slot] < 128)
            return 1;
    return cache->same_addresses[address % SAME_SLOTS] == address ? 1 : 2;
}

static void write_add(writer *w, const uint8_t *bytes, unsigned size)
{
    memcpy(w->data, bytes, size);
    w->data += size;
    if (size == 1 && w->last_copy >= 0) {
        w->instructions[-1] = (uint8_t)(CODE_COPY_ADD + w->last_copy);
        w->last_add = 0;
    } else if (size <= ADD_SIZE_MAXIMUM) {
        *w->instructions++ = (uint8_t)(CODE_ADD + size);
        w->last_add = size <= 4 ? size : 0;
    } else {
        *w->instructions++ = CODE_ADD;
        w->instructions = put_integer(w->instructions, size);
        w->last_add = 0;
    }
    w->last_copy = -1;
}

static void write_run(writer *w, uint8_t byte, unsigned size)
{
    *w->data++ = byte;
    *w->instructions++ = CODE_RUN;
    w->instructions = put_integer(w->instructions, size);
    w->last_add = 0;
    w->last_copy = -1;
}

static void write_copy(writer *w, unsigned address, unsigned here, unsigned size)
{
    unsigned value;
    const unsigned mode = choose_mode(&w->ws->cache, address, here, &value);
    cache_update(&w->ws->cache, address);
    if (mode >= MODE_SAME)
        *w->addresses++ = (uint8_t)value;
    else
        w->addresses = put_integer(w->addresses, value);

    const unsigned add = w->last_add;
    w->last_add = 0;
    w->last_copy = -1;
    if (add && mode < MODE_SAME && size <= 6) {
        const unsigned code = CODE_ADD_COPY + mode * 12 + (add - 1) * 3 + (size - 4);
        w->instructions[-1] = (uint8_t)code;
    } else if (add && mode >= MODE_SAME && size == 4) {
        const unsigned code = CODE_ADD_COPY_SAME + (mode - MODE_SAME) * 4 + (add - 1);
        w->instructions[-1] = (uint8_t)code;
    } else if (size <= COPY_SIZE_MAXIMUM) {
        const unsigned code = CODE_COPY + mode * COPY_CODES_PER_MODE + (size - 4) + 1;
        *w->instructions++ = (uint8_t)code;
        w->last_copy = size == 4 ? (int)mode : -1;
    } else {
        *w->instructions++ = (uint8_t)(CODE_COPY + mode * COPY_CODES_PER_MODE);
        w->instructions = put_integer(w->instructions, size);
    }
}

static size_t written(const writer *w)
{
    return (size_t)(w->data - w->ws->data) + (size_t)(w->instructions - w->ws->instructions) +
           (size_t)(w->addresses - w->ws->addresses);
}

static uint32_t load_4(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, 4);
    return word;
}

static uint64_t load_8(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, 8);
    return word;
}

static unsigned hash_word(uint32_t word)
{
    return (word * 2654435761u) >> (32 - HASH_BITS);
}

/* How many bytes at a and b are equal, at most `limit`; up to 8 bytes past the limit are read. */
static unsigned equal_bytes(const uint8_t *a, const uint8_t *b, unsigned limit)
{
    unsigned count = 0;
    while (count < limit) {
        const uint64_t difference = load_8(a + count) ^ load_8(b + count);
        if (difference) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            count += (unsigned)__builtin_ctzll(difference) / 8;
#else
            count += (unsigned)__builtin_clzll(difference) / 8;
#endif
            return count < limit ? count : limit;
        }
        count += 8;
    }
    return limit;
}

static void insert(vcdiff_workspace *ws, unsigned address)
{
    uint16_t *head = &ws->head[hash_word(load_4(ws->u + address))];
    ws->older[address] = *head;
    *head = (uint16_t)address;
}

/* Enter the words of the base. Of a run of one byte only the first and the last word: thousands of
 * zeros would fill the chain of their hash with addresses that are no better than these two. */
static void insert_base(vcdiff_workspace *ws)
{
    unsigned address = PAGE - WORD;
    uint32_t word = load_4(ws->u + address), after = ~word;
    for (;; address--) {
        const uint32_t before = address ? load_4(ws->u + address - 1) : ~word;
        if (word != before || word != after)
            insert(ws, address);
        if (address == 0)
            return;
        after = word;
        word = before;
    }
}

static void begin(writer *w, vcdiff_workspace *ws, const uint8_t *page, const uint8_t *base)
{
    *w = (writer){ws, ws->data, ws->instructions, ws->addresses, 0, -1};
    memcpy(ws->u, base, PAGE);
    memcpy(ws->u + PAGE, page, PAGE);
    memset(ws->u + U_SIZE, 0, SLACK);
    memset(ws->head, 0xff, sizeof ws->head); /* NO_ADDRESS everywhere */
    memset(&ws->cache, 0, sizeof ws->cache);
    insert_base(ws);
}

typedef struct {
    unsigned address, size;
    unsigned gain; /* bytes saved over adding the bytes themselves */
} match;

/* Replace `best` by a COPY from `address` if that saves more. */
static void consider(const writer *w, unsigned here, unsigned address, match *best)
{
    const uint8_t *u = w->ws->u;
    if (load_4(u + address) != load_4(u + here))
        return;
    unsigned limit = U_SIZE - here;
    if (address < PAGE && PAGE - address < limit)
        limit = PAGE - address; /* the tool takes no COPY across the end of the base */
    const unsigned size = equal_bytes(u + address, u + here, limit);
    if (size < WORD)
        return;
    const unsigned code_length = size <= COPY_SIZE_MAXIMUM ? 1 : 1 + integer_length(size);
    if (size - code_length - 1 <= best->gain)
        return; /* not even with the shortest address */
    const unsigned gain = size - code_length - address_length(&w->ws->cache, address, here);
    if (gain > best->gain)
        *best = (match){address, size, gain};
}

/* The best COPY for the bytes at `here`; gain 0 when there is none. `distance` is how far back the
 * last COPY read: similar pages mostly go on as they did before a difference. */
static match find(const writer *w, unsigned here, unsigned distance)
{
    const vcdiff_workspace *ws = w->ws;
    match best = {0, 0, 0};
    consider(w, here, here - distance, &best);
    if (distance != PAGE)
        consider(w, here, here - PAGE, &best);
    unsigned address = ws->head[hash_word(load_4(ws->u + here))];
    for (int tries = 0; tries < CHAIN_TRIES; tries++) {
        if (address == NO_ADDRESS || best.size >= LONG_ENOUGH)
            break;
        consider(w, here, address, &best);
        address = ws->older[address];
    }
    return best;
}

/* Puts the instructions for the whole page into the workspace.
 * Returns 0, or -1 as soon as the patch cannot fit `capacity` any more. */
static int write_instructions(writer *w, size_t capacity)
{
    vcdiff_workspace *ws = w->ws;
    const uint8_t *u = ws->u;
    unsigned here = PAGE, literals = PAGE; /* the bytes between them await an ADD */
    unsigned distance = PAGE;
    while (here + WORD <= U_SIZE) {
        if (written(w) + (here - literals) > capacity)
            return -1;

        const unsigned run = 1 + equal_bytes(u + here + 1, u + here, U_SIZE - here - 1);
        match found = {0, 0, 0};
        if (run < LONG_ENOUGH)
            found = find(w, here, distance);
        if (run >= RUN_MINIMUM && run - RUN_LENGTH > found.gain) {
            if (here > literals)
                write_add(w, u + literals, here - literals);
            write_run(w, u[here], run);
            here += run;
            literals = here;
            continue;
        }
        if (found.gain == 0) {
            insert(ws, here++);
            continue;
        }

        while (found.size < LAZY_BELOW && here + 1 + WORD <= U_SIZE) {
            insert(ws, here);
            const match later = find(w, here + 1, distance);
            const unsigned new_add = here == literals; /* its code is one byte more */
            if (later.gain <= found.gain + new_add)
                break;
            found = later;
            here++;
        }
        while (here > literals && found.address != 0 && found.address != PAGE &&
               u[found.address - 1] == u[here - 1]) {
            here--;
            found.address--;
            found.size++;
        }
        if (here > literals)
            write_add(w, u + literals, here - literals);
        write_copy(w, found.address, here, found.size);
        distance = here - found.address;
        here += found.size;
        literals = here;
        /* What was copied is found where it came from; only the words across its end are new. */
        if (here + WORD <= U_SIZE)
            for (unsigned address = here - WORD + 1; address < here; address++)
                insert(ws, address);
    }
    if (literals < U_SIZE)
        write_add(w, u + literals, U_SIZE - literals);
    return 0;
}

long vcdiff_encode(vcdiff_workspace *ws, const uint8_t *page, const uint8_t *base, uint8_t *out,
                   size_t capacity)
{
    writer w;
    begin(&w, ws, page, base);
    if (write_instructions(&w, capacity))
        return -1;
    const unsigned data = (unsigned)(w.data - ws->data);
    const unsigned instructions = (unsigned)(w.instructions - ws->instructions);
    const unsigned addresses = (unsigned)(w.addresses - ws->addresses);
    const size_t length = (size_t)integer_length(data) + integer_length(instructions) + data +
                          instructions + addresses;
    if (length > capacity)
        return -1;
    out = put_integer(put_integer(out, data), instructions);
    memcpy(out, ws->data, data);
    memcpy(out + data, ws->instructions, instructions);
    memcpy(out + data + instructions, ws->addresses, addresses);
    return (long)length;
}

/* -------------------------------------------------------------------------------- decoder ---- */

static int decode_address(address_cache *cache, reader *in, unsigned mode, unsigned here,
                          unsigned *address)
{
    uint32_t value;
    if (mode >= MODE_SAME) {
        if (in->next == in->end)
            return -1;
        value = cache->same_addresses[(mode - MODE_SAME) * 256 + *in->next++];
    } else {
        if (get_integer(in, &value))
            return -1;
        if (mode == MODE_HERE)
            value = here - value;
        else if (mode >= MODE_NEAR)
            value += cache->near_addresses[mode - MODE_NEAR];
    }
    if (value >= here) /* also when HERE wrapped around */
        return -1;
    cache_update(cache, value);
    *address = value;
    return 0;
}

/* The three sections of a patch. */
typedef struct {
    reader data, instructions, addresses;
} sections;

static int split(const uint8_t *patch, size_t length, sections *out)
{
    reader in = {patch, patch + length};
    uint32_t data, instructions;
    if (get_integer(&in, &data) || get_integer(&in, &instructions))
        return -1;
    if (data > left(&in) || instructions > left(&in) - data)
        return -1;
    out->data = (reader){in.next, in.next + data};
    out->instructions = (reader){out->data.end, out->data.end + instructions};
    out->addresses = (reader){out->instructions.end, in.end};
    return 0;
}

/* COPY `size` bytes from `address` to the page, whose first `done` bytes are there. */
static void copy(const uint8_t *base, uint8_t *page, unsigned done, unsigned address, unsigned size)
{
    if (address < PAGE) {
        const unsigned from_base = size < PAGE - address ? size : PAGE - address;
        memcpy(page + done, base + address, from_base);
        done += from_base;
        size -= from_base;
        address = PAGE;
    }
    const uint8_t *from = page + (address - PAGE);
    uint8_t *to = page + done;
    if ((size_t)(to - from) >= size)
        memcpy(to, from, size);
    else
        while (size--) /* byte by byte: it reads what it has just written */
            *to++ = *from++;
}

int vcdiff_decode(const uint8_t *patch, size_t length, const uint8_t *base, uint8_t *page)
{
    sections in;
    if (length == 0 || split(patch, length, &in))
        return -1;
    address_cache cache;
    memset(&cache, 0, sizeof cache);
    unsigned done = 0; /* bytes of the page that are there */
    while (left(&in.instructions)) {
        const instruction_pair pair = code_table[*in.instructions.next++];
        const uint8_t types[2] = {pair.first, pair.second};
        const uint8_t sizes[2] = {pair.first_size, pair.second_size};
        for (int i = 0; i < 2 && types[i] != NOOP; i++) {
            uint32_t size = sizes[i];
            if (size == 0 && get_integer(&in.instructions, &size))
                return -1;
            if (size > PAGE - done)
                return -1;
            if (types[i] == ADD) {
                if (size > left(&in.data))
                    return -1;
                memcpy(page + done, in.data.next, size);
                in.data.next += size;
            } else if (types[i] == RUN) {
                if (left(&in.data) == 0)
                    return -1;
                memset(page + done, *in.data.next++, size);
            } else {
                unsigned address;
                if (decode_address(&cache, &in.addresses, pair.mode, PAGE + done, &address))
                    return -1;
                copy(base, page, done, address, size);
            }
            done += size;
        }
    }
    return done == PAGE && !left(&in.data) && !left(&in.addresses) ? 0 : -1;
}

/* --------------------------------------------------------------------------------- stream ---- */

enum { LONGEST_PATCH = 65536 }; /* sixteen times what the encoder makes */

long vcdiff_to_stream(const uint8_t *patch, size_t length, uint8_t *out, size_t capacity)
{
    static const uint8_t header[] = {
        0xd6, 0xc3, 0xc4, 0x00, /* "VCD" with the high bits set, version 0 */
        0x00,                   /* header indicator: no secondary compressor, no code table */
        0x01,                   /* window indicator: VCD_SOURCE */
        0xa0, 0x00,             /* source segment: 4096 bytes */
        0x00,                   /* ... from the base's first */
    };
    static const uint8_t window[] = {
        0xa0, 0x00, /* target window: 4096 bytes */
        0x00,       /* delta indicator: nothing compressed */
    };
    sections in;
    if (length == 0 || length > LONGEST_PATCH || split(patch, length, &in))
        return -1;
    const unsigned data = (unsigned)left(&in.data);
    const unsigned instructions = (unsigned)left(&in.instructions);
    const unsigned addresses = (unsigned)left(&in.addresses);
    const unsigned lengths =
        integer_length(data) + integer_length(instructions) + integer_length(addresses);
    const unsigned body = data + instructions + addresses;
    const unsigned delta = (unsigned)sizeof window + lengths + body;
    const size_t total = sizeof header + integer_length(delta) + delta;
    if (total > capacity)
        return -1;

    memcpy(out, header, sizeof header);
    out = put_integer(out + sizeof header, delta);
    memcpy(out, window, sizeof window);
    out = put_integer(out + sizeof window, data);
    out = put_integer(out, instructions);
    out = put_integer(out, addresses);
    memcpy(out, in.data.next, body); /* the sections follow each other in the patch, too */
    return (long)total;
}
