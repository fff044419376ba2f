/* Burrows-Wheeler transform by induced sorting, and move-to-front: see bwt.h. */
#include "bwt.h"

#include <string.h>

#define BYTE_VALUES 256u
#define EMPTY (-1)

/* Scratch memory is handed out from front to back. The bytes of a block and their suffixes take a
 * word each. A level of the recursion takes for each symbol a quarter of a word for its type and
 * half a word for the reduced text, and two words for each value. There are 256 values at first,
 * then at most as many as symbols; and each level has at most half the symbols of the one above.
 * That is 5.5 words a byte in all, and a few hundred. */
struct arena {
    uint32_t *next;
};

static uint32_t *take(struct arena *arena, size_t words) {
    uint32_t *taken = arena->next;
    arena->next += words;
    return taken;
}

/* A text whose suffixes are sorted. A suffix is S when it is smaller than the one behind it, else
 * L; the last is L, as the end mark behind it is smaller than everything. An S whose left
 * neighbour is L is a leftmost one (LMS). */
struct text {
    const uint32_t *symbols;
    uint8_t *is_s;
    uint32_t *starts; /* of each symbol's bucket in the suffix array, and the end of the last */
    uint32_t *next;   /* a copy that is used up */
    uint32_t length;
    uint32_t values;
};

static int is_lms(const struct text *text, uint32_t i) {
    return i > 0 && text->is_s[i] && !text->is_s[i - 1];
}

static void point_at_starts(struct text *text) {
    memcpy(text->next, text->starts, text->values * sizeof *text->next);
}

static void point_at_ends(struct text *text) {
    memcpy(text->next, text->starts + 1, text->values * sizeof *text->next);
}

/* From the LMS suffixes, which lie in order at the ends of their buckets, to all suffixes. */
static void induce(struct text *text, int32_t *suffixes) {
    const uint32_t *symbols = text->symbols;
    const uint8_t *is_s = text->is_s;
    uint32_t *next = text->next;
    uint32_t last = text->length - 1u;

    point_at_starts(text);
    suffixes[next[symbols[last]]++] = (int32_t)last;
    for (uint32_t i = 0; i < text->length; i++) {
        int32_t left = suffixes[i] - 1;
        if (left >= 0 && !is_s[left]) {
            suffixes[next[symbols[left]]++] = left;
        }
    }
    point_at_ends(text);
    for (uint32_t i = text->length; i-- > 0;) {
        int32_t left = suffixes[i] - 1;
        if (left >= 0 && is_s[left]) {
            suffixes[--next[symbols[left]]] = left;
        }
    }
}

/* Whether the substrings from two LMS positions to the next ones are the same. */
static int same_substring(const struct text *text, uint32_t a, uint32_t b) {
    for (uint32_t i = 0;; i++) {
        /* Only one of two different substrings can reach the end mark, and it differs there. */
        if (a + i >= text->length || b + i >= text->length ||
            text->symbols[a + i] != text->symbols[b + i]) {
            return 0;
        }
        if (i > 0) {
            int ends = is_lms(text, a + i);
            if (ends != is_lms(text, b + i)) {
                return 0;
            }
            if (ends) {
                return 1;
            }
        }
    }
}

static void classify(struct text *text) {
    memset(text->starts, 0, (text->values + 1u) * sizeof *text->starts);
    uint8_t smaller = 0;
    for (uint32_t i = text->length; i-- > 0;) {
        uint32_t symbol = text->symbols[i];
        if (i + 1u < text->length && symbol != text->symbols[i + 1u]) {
            smaller = symbol < text->symbols[i + 1u];
        }
        text->is_s[i] = smaller;
        text->starts[symbol + 1u]++;
    }
    for (uint32_t value = 0; value < text->values; value++) {
        text->starts[value + 1u] += text->starts[value];
    }
}

/* Gives equal LMS substrings equal names, in their order, and writes the names in text order.
 * The sorted LMS positions are suffixes[0 .. count). Returns how many names there are. */
static uint32_t name_substrings(const struct text *text, int32_t *suffixes, uint32_t count,
                                uint32_t *reduced) {
    /* LMS positions are at least two apart, so that half a position is a place of its own. */
    int32_t *names = suffixes + count;
    uint32_t half = text->length / 2u;
    for (uint32_t i = 0; i < half; i++) {
        names[i] = EMPTY;
    }
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 &&
            !same_substring(text, (uint32_t)suffixes[i - 1u], (uint32_t)suffixes[i])) {
            used++;
        }
        names[(uint32_t)suffixes[i] / 2u] = (int32_t)used;
    }
    for (uint32_t i = 0; i < half; i++) {
        if (names[i] != EMPTY) {
            *reduced++ = (uint32_t)names[i];
        }
    }
    return used + 1u;
}

static void sort_suffixes(const uint32_t *symbols, uint32_t length, uint32_t values,
                          int32_t *suffixes, struct arena arena) {
    struct text text = {
        .symbols = symbols,
        .is_s = (uint8_t *)take(&arena, length / 4u + 1u),
        .starts = take(&arena, values + 1u),
        .next = take(&arena, values),
        .length = length,
        .values = values,
    };
    classify(&text);

    /* Sort the LMS substrings: inducing from unsorted positions does that. */
    memset(suffixes, 0xff, length * sizeof *suffixes);
    point_at_ends(&text);
    for (uint32_t i = 1; i < length; i++) {
        if (is_lms(&text, i)) {
            suffixes[--text.next[symbols[i]]] = (int32_t)i;
        }
    }
    induce(&text, suffixes);
    uint32_t count = 0;
    for (uint32_t i = 0; i < length; i++) {
        if (is_lms(&text, (uint32_t)suffixes[i])) {
            suffixes[count++] = suffixes[i];
        }
    }
    if (count == 0) {
        return; /* no suffix is smaller than its right neighbour: that was all */
    }

    /* Their names are a text of half the length, whose suffixes sort as the LMS suffixes do. */
    uint32_t *reduced = take(&arena, count);
    uint32_t names = name_substrings(&text, suffixes, count, reduced);
    if (names < count) {
        sort_suffixes(reduced, count, names, suffixes, arena);
    } else {
        for (uint32_t i = 0; i < count; i++) {
            suffixes[reduced[i]] = (int32_t)i;
        }
    }
    int32_t *positions = suffixes + length - count;
    for (uint32_t i = 1, k = 0; i < length; i++) {
        if (is_lms(&text, i)) {
            positions[k++] = (int32_t)i;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        suffixes[i] = positions[suffixes[i]];
    }

    /* Put them at the ends of their buckets, the last first: none overtakes those to be read. */
    memset(suffixes + count, 0xff, (length - count) * sizeof *suffixes);
    point_at_ends(&text);
    for (uint32_t i = count; i-- > 0;) {
        int32_t position = suffixes[i];
        suffixes[i] = EMPTY;
        suffixes[--text.next[symbols[position]]] = position;
    }
    induce(&text, suffixes);
}

uint32_t bwt_transform(const uint8_t *block, size_t length, uint8_t *out,
                       uint32_t *workspace) {
    struct arena arena = {workspace};
    uint32_t *symbols = take(&arena, length);
    int32_t *suffixes = (int32_t *)take(&arena, length);
    for (size_t i = 0; i < length; i++) {
        symbols[i] = block[i];
    }
    sort_suffixes(symbols, (uint32_t)length, BYTE_VALUES, suffixes, arena);

    uint32_t row = 0;
    *out++ = block[length - 1u]; /* row 0 begins with the end mark */
    for (uint32_t i = 0; i < length; i++) {
        if (suffixes[i] == 0) {
            row = i;
        } else {
            *out++ = block[suffixes[i] - 1];
        }
    }
    return row;
}

int bwt_inverse(const uint8_t *transformed, size_t length, uint32_t row, uint8_t *block,
                uint32_t *workspace) {
    if (length == 0 || row >= length) {
        return -1;
    }
    /* For each row but that of the end mark: the byte before it, and the row that begins there. */
    uint32_t *steps = workspace;
    uint32_t next[BYTE_VALUES] = {0};
    for (size_t i = 0; i < length; i++) {
        next[transformed[i]]++;
    }
    uint32_t start = 1; /* row 0 begins with the end mark */
    for (unsigned value = 0; value < BYTE_VALUES; value++) {
        uint32_t count = next[value];
        next[value] = start;
        start += count;
    }
    uint32_t marked = row + 1u;
    for (uint32_t i = 0; i < length; i++) {
        steps[i + (i >= marked)] = next[transformed[i]]++ << 8 | transformed[i];
    }
    uint32_t here = 0;
    for (size_t i = length; i-- > 0;) {
        if (here == marked) {
            return -1; /* the block's start is reached too early */
        }
        block[i] = (uint8_t)steps[here];
        here = steps[here] >> 8;
    }
    return here == marked ? 0 : -1;
}

static void list_in_order(uint8_t list[BYTE_VALUES]) {
    for (unsigned value = 0; value < BYTE_VALUES; value++) {
        list[value] = (uint8_t)value;
    }
}

void mtf_encode(uint8_t *bytes, size_t length) {
    uint8_t list[BYTE_VALUES];
    list_in_order(list);
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = bytes[i];
        if (byte == list[0]) {
            bytes[i] = 0;
            continue;
        }
        size_t rank = (size_t)((const uint8_t *)memchr(list, byte, BYTE_VALUES) - list);
        memmove(list + 1, list, rank);
        list[0] = byte;
        bytes[i] = (uint8_t)rank;
    }
}

void mtf_decode(uint8_t *bytes, size_t length) {
    uint8_t list[BYTE_VALUES];
    list_in_order(list);
    for (size_t i = 0; i < length; i++) {
        size_t rank = bytes[i];
        uint8_t byte = list[rank];
        memmove(list + 1, list, rank);
        list[0] = byte;
        bytes[i] = byte;
    }
}
