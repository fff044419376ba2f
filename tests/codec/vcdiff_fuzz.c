/* Feeds the VCDIFF codec pages of many kinds and hostile patches. test_vcdiff.py builds it
 * together with native/vcdiff.c under the address and undefined behaviour sanitizers; every buffer
 * is an allocation of its own of the exact size, so that one byte too far is seen.
 *
 *     vcdiff_fuzz ROUNDS [SEED]
 */
#include "vcdiff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE VCDIFF_PAGE_SIZE
#define ENOUGH (PAGE + 512) /* longer than any patch of the encoder */

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
        fprintf(stderr, "vcdiff_fuzz: %s\n", what);
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

static void decode_hostile(const uint8_t *bytes, size_t length, const uint8_t *base)
{
    uint8_t *patch = allocate(length), *page = allocate(PAGE);
    uint8_t *stream = allocate(length + VCDIFF_STREAM_OVERHEAD);
    memcpy(patch, bytes, length);
    vcdiff_decode(patch, length, base, page);
    vcdiff_to_stream(patch, length, stream, length + VCDIFF_STREAM_OVERHEAD);
    vcdiff_to_stream(patch, length, stream, length);
    free(stream);
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

static void round_trip(vcdiff_workspace *ws)
{
    uint8_t *base = allocate(PAGE), *page = allocate(PAGE), *decoded = allocate(PAGE);
    make_page(base, NULL);
    make_page(page, base);

    uint8_t *room = allocate(ENOUGH);
    const long length = vcdiff_encode(ws, page, base, room, ENOUGH);
    require(length > 0, "a patch is longer than it can be");
    uint8_t *patch = allocate((size_t)length);
    memcpy(patch, room, (size_t)length);
    require(vcdiff_decode(patch, (size_t)length, base, decoded) == 0, "a patch is refused");
    require(memcmp(decoded, page, PAGE) == 0, "a patch gives another page");

    uint8_t *exact = allocate((size_t)length);
    require(vcdiff_encode(ws, page, base, exact, (size_t)length) == length, "no exact fit");
    require(memcmp(exact, patch, (size_t)length) == 0, "the patch depends on the capacity");
    const size_t less = below((uint32_t)length);
    uint8_t *tight = allocate(less);
    require(vcdiff_encode(ws, page, base, tight, less) == -1, "the capacity is overrun");

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
    if (argc < 2) {
        fprintf(stderr, "usage: vcdiff_fuzz ROUNDS [SEED]\n");
        return 2;
    }
    state ^= (argc > 2 ? strtoull(argv[2], NULL, 0) : 1) * 0x9e3779b97f4a7c15u;
    vcdiff_workspace *ws = (vcdiff_workspace *)allocate(vcdiff_workspace_size());
    memset(ws, 0xa5, vcdiff_workspace_size());
    for (long rounds = strtol(argv[1], NULL, 0); rounds > 0; rounds--)
        round_trip(ws);
    free(ws);
    return 0;
}
