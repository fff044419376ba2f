/* Feeds a patch codec pages of many kinds and hostile patches. test_patch_fuzz.py builds it together
 * with the codecs under the address and undefined behaviour sanitizers; every buffer is an
 * allocation of its own of the exact size, so that one byte too far is seen.
 *
 *     patch_fuzz CODEC ROUNDS [SEED]
 */
#include "page_bsdiff.h"
#include "vcdiff.h"
#include "xbzrle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096
#define ENOUGH (PAGE + PAGE) /* longer than any patch of the encoders */

static uint64_t state = 88172645463325252u;

static uint32_t below(uint32_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 20) % limit;
}

static uint8_t *allocate(size_t size)
{
    uint8_t *memory = malloc(size ? size : 1);
    if (!memory)
        abort();
    return memory;
}

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "patch_fuzz: %s\n", what);
        abort();
    }
}

static void scatter(uint8_t *page, uint32_t changes)
{
    while (changes--)
        page[below(PAGE)] = (uint8_t)below(256);
}

static void make_page(uint8_t *page, const uint8_t *base)
{
    const uint32_t kind = below(base ? 9 : 5);
    const uint32_t parameter = 1 + below(kind == 1 ? 40 : PAGE - 1);
    switch (kind) {
    case 0: /* random */
        for (size_t i = 0; i < PAGE; i++)
            page[i] = (uint8_t)below(256);
        break;
    case 1: /* periodic, now and then constant */
        for (size_t i = 0; i < PAGE; i++)
            page[i] = i < parameter ? (uint8_t)below(256) : page[i - parameter];
        break;
    case 2: /* few values */
        for (size_t i = 0; i < PAGE; i++)
            page[i] = (uint8_t) "abcd   etni"[below(11)];
        break;
    case 3: /* two values: long hash chains */
        for (size_t i = 0; i < PAGE; i++)
            page[i] = (uint8_t)below(2);
        break;
    case 4: /* nearly constant */
        memset(page, (int)below(256), PAGE);
        scatter(page, below(200));
        break;
    case 5: /* similar */
        memcpy(page, base, PAGE);
        scatter(page, below(below(2) ? 10 : 1500));
        break;
    case 6: /* rotated */
        memcpy(page, base + parameter, PAGE - parameter);
        memcpy(page + PAGE - parameter, base, parameter);
        scatter(page, below(20));
        break;
    default: /* pieces */
        for (uint32_t done = 0; done < PAGE;) {
            uint32_t size = 1 + below(below(2) ? 20 : 300);
            if (size > PAGE - done)
                size = PAGE - done;
            memcpy(page + done, base + below(PAGE - size + 1), size);
            done += size;
        }
        scatter(page, below(60));
    }
}

/* ------------------------------------------------------------------------------ the codecs ---- */

typedef struct {
    const char *name;
    size_t (*workspace_size)(void);
    long (*encode)(void *ws, const uint8_t *page, const uint8_t *base, uint8_t *out, size_t capacity);
    int (*decode)(void *ws, const uint8_t *patch, size_t length, const uint8_t *base, uint8_t *page);
} patcher;

static long encode_vcdiff(void *ws, const uint8_t *page, const uint8_t *base, uint8_t *out,
                          size_t capacity)
{
    return vcdiff_encode(ws, page, base, out, capacity);
}

static int decode_vcdiff(void *ws, const uint8_t *patch, size_t length, const uint8_t *base,
                         uint8_t *page)
{
    (void)ws;
    const size_t capacity = length + VCDIFF_STREAM_OVERHEAD;
    uint8_t *stream = allocate(capacity), *tight = allocate(length);
    vcdiff_to_stream(patch, length, stream, capacity);
    vcdiff_to_stream(patch, length, tight, length);
    free(tight);
    free(stream);
    return vcdiff_decode(patch, length, base, page);
}

static long encode_page_bsdiff(void *ws, const uint8_t *page, const uint8_t *base, uint8_t *out,
                               size_t capacity)
{
    return page_bsdiff_encode(ws, page, base, out, capacity);
}

static int decode_page_bsdiff(void *ws, const uint8_t *patch, size_t length, const uint8_t *base,
                              uint8_t *page)
{
    return page_bsdiff_decode(ws, patch, length, base, page);
}

static size_t nothing(void)
{
    return 0;
}

static long encode_xbzrle(void *ws, const uint8_t *page, const uint8_t *base, uint8_t *out,
                          size_t capacity)
{
    (void)ws;
    return xbzrle_encode(page, base, out, capacity);
}

static int decode_xbzrle(void *ws, const uint8_t *patch, size_t length, const uint8_t *base,
                         uint8_t *page)
{
    (void)ws;
    return xbzrle_decode(patch, length, base, page);
}

static const patcher patchers[] = {
    {"vcdiff", vcdiff_workspace_size, encode_vcdiff, decode_vcdiff},
    {"page_bsdiff", page_bsdiff_workspace_size, encode_page_bsdiff, decode_page_bsdiff},
    {"xbzrle", nothing, encode_xbzrle, decode_xbzrle},
};

/* --------------------------------------------------------------------------------- fuzzing ---- */

static const patcher *codec;
static uint8_t *ws;

static void decode_hostile(const uint8_t *bytes, size_t length, const uint8_t *base)
{
    uint8_t *patch = allocate(length), *page = allocate(PAGE);
    memcpy(patch, bytes, length);
    codec->decode(ws, patch, length, base, page);
    free(page);
    free(patch);
}

static void mutate_and_decode(const uint8_t *patch, size_t length, const uint8_t *base)
{
    uint8_t bytes[ENOUGH + 8];
    size_t mutated = length;
    memcpy(bytes, patch, length);
    switch (below(4)) {
    case 0:
        mutated = below((uint32_t)length);
        break;
    case 1:
        for (uint32_t more = below(8); more--;)
            bytes[mutated++] = (uint8_t)below(256);
        break;
    default:
        for (uint32_t changes = 1 + below(8); changes--;) {
            const uint32_t reach = below(3) ? (uint32_t)length : 4;
            const uint32_t at = below(reach < length ? reach : (uint32_t)length);
            bytes[at] = (uint8_t)(below(2) ? below(256) : bytes[at] ^ (1u << below(8)));
        }
    }
    decode_hostile(bytes, mutated, base);
}

static void round_trip(void)
{
    uint8_t *base = allocate(PAGE), *page = allocate(PAGE), *decoded = allocate(PAGE);
    make_page(base, NULL);
    make_page(page, base);

    uint8_t *room = allocate(ENOUGH);
    const long length = codec->encode(ws, page, base, room, ENOUGH);
    require(length > 0, "a patch is longer than it can be");
    uint8_t *patch = allocate((size_t)length);
    memcpy(patch, room, (size_t)length);
    require(codec->decode(ws, patch, (size_t)length, base, decoded) == 0, "a patch is refused");
    require(memcmp(decoded, page, PAGE) == 0, "a patch gives another page");

    uint8_t *exact = allocate((size_t)length);
    require(codec->encode(ws, page, base, exact, (size_t)length) == length, "no exact fit");
    require(memcmp(exact, patch, (size_t)length) == 0, "the patch depends on the capacity");
    const size_t less = below((uint32_t)length);
    uint8_t *tight = allocate(less);
    require(codec->encode(ws, page, base, tight, less) == -1, "the capacity is overrun");

    for (int i = 0; i < 20; i++)
        mutate_and_decode(patch, (size_t)length, base);
    uint8_t noise[200];
    const uint32_t noise_length = below(sizeof noise);
    for (uint32_t i = 0; i < noise_length; i++)
        noise[i] = (uint8_t)(below(4) ? below(256) : below(8));
    decode_hostile(noise, noise_length, base);

    free(tight);
    free(exact);
    free(patch);
    free(room);
    free(decoded);
    free(page);
    free(base);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 2 && i < sizeof patchers / sizeof *patchers; i++)
        if (strcmp(argv[1], patchers[i].name) == 0)
            codec = &patchers[i];
    if (!codec) {
        fprintf(stderr, "usage: patch_fuzz CODEC ROUNDS [SEED]\n");
        return 2;
    }
    state ^= (argc > 3 ? strtoull(argv[3], NULL, 0) : 1) * 0x9e3779b97f4a7c15u;
    ws = allocate(codec->workspace_size());
    memset(ws, 0xa5, codec->workspace_size());
    for (long rounds = strtol(argv[2], NULL, 0); rounds > 0; rounds--)
        round_trip();
    free(ws);
    return 0;
}
