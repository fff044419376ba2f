/* XBZRLE page patches: see xbzrle.h for the format. */
#include "xbzrle.h"

#include <string.h>

#define PAGE XBZRLE_PAGE_SIZE

enum { LENGTH_BYTES = 2 }; /* the most that a length takes */

static uint64_t difference_at(const uint8_t *page, const uint8_t *base, unsigned place) {
    uint64_t ours, theirs;
    memcpy(&ours, page + place, sizeof ours);
    memcpy(&theirs, base + place, sizeof theirs);
    return ours ^ theirs;
}

/* Where the run of equal bytes ends that begins at `place`. */
static unsigned end_of_equal(const uint8_t *page, const uint8_t *base, unsigned place) {
    for (; place + 8 <= PAGE; place += 8) {
        uint64_t difference = difference_at(page, base, place);
        if (difference) {
            return place + (unsigned)__builtin_ctzll(difference) / 8u;
        }
    }
    while (place < PAGE && page[place] == base[place]) {
        place++;
    }
    return place;
}

/* Where the run of differing bytes ends. */
static unsigned end_of_differing(const uint8_t *page, const uint8_t *base, unsigned place) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (; place + 8 <= PAGE; place += 8) {
        uint64_t difference = difference_at(page, base, place);
        /* The lowest bit of this is in the first byte that is zero. */
        uint64_t zeros = (difference - ones) & ~difference & ones << 7;
        if (zeros) {
            return place + (unsigned)__builtin_ctzll(zeros) / 8u;
        }
    }
    while (place < PAGE && page[place] != base[place]) {
        place++;
    }
    return place;
}

static uint8_t *put_length(uint8_t *out, unsigned length) {
    if (length >= 0x80) {
        *out++ = (uint8_t)(length | 0x80);
        length >>= 7;
    }
    *out++ = (uint8_t)length;
    return out;
}

long xbzrle_encode(const uint8_t *page, const uint8_t *base, uint8_t *out, size_t capacity) {
    uint8_t *next = out;
    for (unsigned place = 0; place < PAGE;) {
        unsigned differing = end_of_equal(page, base, place);
        if (differing == PAGE && place > 0) {
            break;
        }
        unsigned end = end_of_differing(page, base, differing);
        uint8_t lengths[2 * LENGTH_BYTES];
        uint8_t *behind = put_length(lengths, differing - place);
        if (end > differing) {
            behind = put_length(behind, end - differing);
        }
        size_t size = (size_t)(behind - lengths);
        if (size + (end - differing) > capacity - (size_t)(next - out)) {
            return -1;
        }
        memcpy(next, lengths, size);
        memcpy(next + size, page + differing, end - differing);
        next += size + (end - differing);
        place = end;
    }
    return (long)(next - out);
}

/* Returns 0, or -1 when the patch ends within the length or it has more than two bytes. */
static int get_length(const uint8_t **next, const uint8_t *end, unsigned *length) {
    if (*next == end) {
        return -1;
    }
    *length = *(*next)++;
    if (*length >= 0x80) {
        if (*next == end || **next >= 0x80) {
            return -1;
        }
        *length = (*length & 0x7fu) | (unsigned)*(*next)++ << 7;
    }
    return 0;
}

int xbzrle_decode(const uint8_t *patch, size_t length, const uint8_t *base, uint8_t *page) {
    const uint8_t *next = patch, *end = patch + length;
    unsigned place = 0;
    memcpy(page, base, PAGE);
    do {
        unsigned equal, differing;
        if (get_length(&next, end, &equal) || equal > PAGE - place || (equal == 0 && place > 0)) {
            return -1;
        }
        if (equal == PAGE) {
            return next == end ? 0 : -1;
        }
        place += equal;
        if (get_length(&next, end, &differing) || differing == 0 || differing > PAGE - place ||
            differing > (size_t)(end - next)) {
            return -1;
        }
        memcpy(page + place, next, differing);
        next += differing;
        place += differing;
    } while (next < end);
    return 0;
}
