/* Feeds what difffs decodes arbitrary bytes: every codec, extent headers, page table chunks, hint
 * tables and LMDB files. Built with sanitizers by fuzzing/decoders.py; each buffer is of the exact
 * size, an allocation of its own or at the end of a mapping, so that one byte too far is seen.
 *
 *     decoders EXECUTIONS SEED FOUND-FOLDER [INPUT...]     mutates seeds and what reaches new code
 *     decoders replay INPUT...                             each once
 *
 * With clang, libFuzzer drives it by LLVMFuzzerTestOneInput instead. An input is a target's number,
 * a base's number, and the bytes.
 */
#define _GNU_SOURCE
#include "codec.h"
#include "extents.h"
#include "group_codec.h"
#include "lmdb_check.h"
#include "page_tables.h"
#include "tables.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BASES 6u
#define LONGEST 49152u /* room for a small LMDB file */
#define HEAD 2u
#define BEFORE_EDGE 64u

enum target {
    TARGET_HEADER = PAGE_CODEC_COUNT, /* 14: an extent header, and its objects read from a file */
    TARGET_DIGESTS,              /* 15: a digest table */
    TARGET_SKETCHES,             /* 16: a sketch table */
    TARGET_LMDB,                 /* 17: an LMDB file */
    TARGET_DICTIONARY,           /* 18: a zstd dictionary, and a frame for it */
    TARGET_GROUP,                /* 19: a group, of the codec and the pages that its base's number says */
    TARGETS,
};

static uint64_t state;
static codec_context *context;
static codec_dictionary *dictionary;
static group_decoder *groups;
static uint8_t *bases[BASES];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t below(uint32_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 20) % limit;
}

static uint8_t *allocate(size_t size) {
    uint8_t *memory = malloc(size ? size : 1);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static uint8_t *copy_of(const uint8_t *bytes, size_t size) {
    uint8_t *copy = allocate(size);
    memcpy(copy, bytes, size);
    return copy;
}

/* A place whose end is that of a mapping: the libraries have no sanitizer that sees what they read or
 * write behind it, and here they end by a signal. One at a time; what it holds lasts until the next. */
struct edge {
    uint8_t *end;
    size_t bytes;
};

static void make_edge(struct edge *edge, size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
    uint8_t *memory = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + whole, page, PROT_NONE)) {
        abort();
    }
    *edge = (struct edge){memory + whole, whole};
}

static uint8_t *at_edge(const struct edge *edge, const uint8_t *bytes, size_t size) {
    if (size > edge->bytes) {
        abort();
    }
    uint8_t *begin = edge->end - size;
    ASAN_UNPOISON_MEMORY_REGION(edge->end - edge->bytes, edge->bytes);
    if (size + BEFORE_EDGE <= edge->bytes) { /* what is before is no part of it either */
        ASAN_POISON_MEMORY_REGION(begin - BEFORE_EDGE, BEFORE_EDGE);
    }
    if (bytes != NULL) {
        memcpy(begin, bytes, size);
    }
    return begin;
}

static struct edge payload_edge, page_edge, base_edge;

static void make_base(uint8_t *page, unsigned kind) {
    for (uint32_t i = 0; i < PAGE_BYTES; i++) {
        switch (kind) {
        case 0:
            page[i] = 0;
            break;
        case 1:
            page[i] = (uint8_t)below(256);
            break;
        case 2:
            page[i] = (uint8_t) "the page of a guest, 0123456789 "[i % 31];
            break;
        case 3:
            page[i] = (uint8_t)(i % 8 < 3 ? i >> 4 : 0xff);
            break;
        case 4:
            page[i] = below(12) ? (uint8_t) "abcd   etni"[below(11)] : (uint8_t)below(256);
            break;
        default:
            page[i] = (uint8_t)below(2);
        }
    }
}

/* ------------------------------------------------------------------------------ the targets ---- */

static int sealed_file(const uint8_t *bytes, size_t size) {
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    if (file < 0 || pwrite(file, bytes, size, 0) != (ssize_t)size) {
        abort();
    }
    return file;
}

static void decode(unsigned codec, const uint8_t *base, const uint8_t *bytes, size_t size) {
    if (size > PAGE_BYTES) {
        size = PAGE_BYTES;
    }
    (void)codec_decode(context, (enum codec)codec, at_edge(&payload_edge, bytes, size), size,
                       at_edge(&base_edge, base, PAGE_BYTES),
                       at_edge(&page_edge, NULL, PAGE_BYTES));
}

/* What the store does with a stored header (difffs/_kernels.pyx, copy_header), and reading all of
 * its objects from a side that consists of the input. */
static void read_header(const uint8_t *bytes, size_t size) {
    union extent_header *header = calloc(1, sizeof *header);
    struct extents extents;
    struct extent_summary summary;
    size_t length = size < HEADER_BYTES ? size / 16u * 16u : HEADER_BYTES;
    if (header == NULL || extents_init(&extents) || extents_grow(&extents, 2)) {
        abort();
    }
    memcpy(header, bytes, length);
    if (length >= 16 && header_stored_bytes(header) <= length) {
        memset((uint8_t *)header + header_stored_bytes(header), 0,
               sizeof *header - header_stored_bytes(header));
        if (header_judge(header) == HEADER_SOUND) {
            header_summarise(header, &summary);
            extents.file = sealed_file(bytes, size);
            extents_account(&extents, 1, &summary);
            extents_count(&extents, header);
            if (extents_load(&extents, 1, header, HEADER_CLEAN)) {
                abort();
            }
            uint8_t *page = allocate(PAGE_BYTES);
            unsigned slots = 0;
            for (uint32_t slot = 0; slot <= 255 && slots < 8; slot++) {
                struct object_record record;
                if (extents_record(&extents, 256u + slot, &record) == READ_OK) {
                    (void)extents_read(&extents, context, 256u + slot, page);
                    (void)extents_depth(&extents, 256u + slot, MAXIMUM_DEPTH);
                    slots++;
                }
            }
            free(page);
            close(extents.file);
            extents.file = -1;
        }
    }
    extents_free(&extents);
    free(header);
}

static void use_table(const uint8_t *bytes, size_t size, int is_digests) {
    if (size < 8) {
        return;
    }
    const uint32_t last = is_digests ? DIGEST_LAST_ID_BITS : SKETCH_LAST_ID_BITS;
    struct hint_table table = {
        .bucket_bits = HINT_FIRST_BUCKET_BITS,
        .ways = HINT_LEAST_WAYS + bytes[0] % (HINT_MOST_WAYS - HINT_LEAST_WAYS + 1u),
        .id_bits = HINT_FIRST_ID_BITS + bytes[1] % (last - HINT_FIRST_ID_BITS + 1u),
    };
    const size_t slots = hint_table_slots(&table);
    table.slots = (uint32_t *)(void *)allocate(4u * slots);
    for (size_t i = 0; i < slots; i++) {
        memcpy(&table.slots[i], bytes + (4u * i) % (size - 3u), 4);
    }
    uint32_t ids[DIGEST_CANDIDATES], key;
    for (size_t at = 2; at + 4 <= size && at < 200; at += 4) {
        memcpy(&key, bytes + at, 4);
        if (is_digests) {
            (void)digest_table_find(&table, key, ids);
            (void)digest_table_insert(&table, key, key ^ 0x5a5a5a5au);
            (void)digest_table_replace(&table, key, key ^ 0x5a5a5a5au, 300);
            (void)digest_table_remove(&table, key, 300);
            (void)digest_table_digest(&table, key % slots);
        } else {
            (void)sketch_table_find(&table, key);
            sketch_table_put(&table, key, (key ^ 0x5a5a5a5au) & ((1u << last) - 1u));
        }
    }
    if (!is_digests || digest_table_can_grow(&table)) {
        struct hint_table larger = table;
        if (table.ways < HINT_MOST_WAYS) {
            larger.ways++;
        } else {
            larger.ways = HINT_LEAST_WAYS;
            larger.bucket_bits++;
            larger.id_bits = table.id_bits < last ? table.id_bits + 1u : table.id_bits;
        }
        larger.slots = calloc(hint_table_slots(&larger), sizeof *larger.slots);
        if (larger.slots == NULL) {
            abort();
        }
        if (is_digests) {
            (void)digest_table_grow(&table, &larger);
        } else {
            sketch_table_grow(&table, &larger);
        }
        free(larger.slots);
    }
    free(table.slots);
}

static void check_lmdb(const uint8_t *bytes, size_t size) {
    struct lmdb_damage damage;
    int file = sealed_file(bytes, size);
    lmdb_check(file, &damage);
    close(file);
}

static void use_dictionary(const uint8_t *bytes, size_t size) {
    const size_t length = size / 2u;
    uint8_t *content = copy_of(bytes, length);
    codec_dictionary *hostile = length ? codec_dictionary_new(content, length, 1) : NULL;
    if (hostile != NULL) {
        codec_context_use(context, hostile);
        decode(CODEC_ZSTD_DICTIONARY, bases[0], bytes + length, size - length);
        codec_context_use(context, dictionary);
    }
    codec_dictionary_free(hostile);
    free(content);
}

/* The codec by the number's remainder, and up to 16 pages by the rest of it, not always all wanted. */
static void decode_group(unsigned number, const uint8_t *bytes, size_t size) {
    const enum codec codec = (enum codec)(CODEC_GROUP_ZSTD + number % 3u);
    const unsigned count = 1u + number / 3u % 16u;
    const unsigned wanted = number & 64u ? 1u + count / 2u : count;
    const unsigned decoded =
        group_decode(groups, codec, at_edge(&payload_edge, bytes, size), size, count, wanted,
                     at_edge(&page_edge, NULL, (size_t)count * PAGE_BYTES));
    if (decoded != 0 && (decoded < wanted || decoded > count)) {
        abort();
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    state = UINT64_C(88172645463325252);
    context = codec_context_new();
    if (context == NULL) {
        abort();
    }
    make_edge(&payload_edge, 1u << 20);
    make_edge(&page_edge, 16u * PAGE_BYTES);
    make_edge(&base_edge, PAGE_BYTES);
    for (unsigned i = 0; i < BASES; i++) {
        bases[i] = allocate(PAGE_BYTES);
        make_base(bases[i], i);
    }
    dictionary = codec_dictionary_new(bases[4], PAGE_BYTES, 1);
    if (dictionary == NULL) {
        abort();
    }
    codec_context_use(context, dictionary);
    groups = group_decoder_new();
    if (groups == NULL) {
        abort();
    }
    group_decoder_use(groups, dictionary);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HEAD || size > HEAD + (1u << 20)) {
        return 0;
    }
    const unsigned target = data[0] % TARGETS;
    const uint8_t *base = bases[data[1] % BASES], *bytes = data + HEAD;
    const size_t length = size - HEAD;
    switch (target) {
    case TARGET_HEADER:
        read_header(bytes, length);
        break;
    case TARGET_DIGESTS:
    case TARGET_SKETCHES:
        use_table(bytes, length, target == TARGET_DIGESTS);
        break;
    case TARGET_LMDB:
        check_lmdb(bytes, length);
        break;
    case TARGET_DICTIONARY:
        use_dictionary(bytes, length);
        break;
    case TARGET_GROUP:
        decode_group(data[1], bytes, length);
        break;
    default:
        decode(target, base, bytes, length);
    }
    return 0;
}

#ifndef WITH_LIBFUZZER

/* ------------------------------------------------------------------ the code that is reached ---- */

#define EDGES 8192u
static uint8_t reached[EDGES], seen[EDGES];
static uintptr_t former;

/* gcc calls this at each basic block of what is built with -fsanitize-coverage=trace-pc. */
void __sanitizer_cov_trace_pc(void);
__attribute__((no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc(void) {
    const uintptr_t here = (uintptr_t)__builtin_return_address(0);
    const uintptr_t edge = (here ^ former) * UINT64_C(0x9e3779b97f4a7c15) >> 51;
    reached[edge % EDGES] = 1;
    former = here >> 1;
}

/* Whether the last input came where none has been; forgets it. */
__attribute__((no_sanitize("address", "undefined"))) static int was_new(void) {
    int new = 0;
    for (uint32_t i = 0; i < EDGES; i += 8) {
        uint64_t now, before;
        memcpy(&now, reached + i, 8);
        if (now) {
            memcpy(&before, seen + i, 8);
            new |= (now & ~before) != 0;
            before |= now;
            memcpy(seen + i, &before, 8);
            memset(reached + i, 0, 8);
        }
    }
    former = 0;
    return new;
}

/* -------------------------------------------------------------------------------- the inputs ---- */

struct input {
    uint8_t *bytes;
    size_t size;
};

#define POOL 4096u
static struct input pool[TARGETS][POOL];
static uint32_t pooled[TARGETS];
static uint64_t counts[TARGETS], accepted_inputs;

static void keep(const uint8_t *bytes, size_t size) {
    const unsigned target = bytes[0] % TARGETS;
    uint32_t at = pooled[target];
    if (at < POOL) {
        pooled[target]++;
    } else {
        at = below(POOL);
        free(pool[target][at].bytes);
    }
    pool[target][at] = (struct input){copy_of(bytes, size), size};
}

/* What the encoders make of pages like the bases, and a few bytes for each target else. */
static void make_seeds(void) {
    uint8_t bytes[HEAD + PAGE_BYTES], page[PAGE_BYTES];
    for (unsigned codec = 1; codec < PAGE_CODEC_COUNT; codec++) {
        for (unsigned i = 0; i < 3 * BASES; i++) {
            const unsigned base = i % BASES;
            memcpy(page, bases[below(3) ? base : below(BASES)], PAGE_BYTES);
            for (uint32_t changes = below(60); changes--;) {
                page[below(PAGE_BYTES)] = (uint8_t)below(256);
            }
            if (codec == CODEC_SAME) {
                memset(page, (int)i, PAGE_BYTES);
            }
            bytes[0] = (uint8_t)codec;
            bytes[1] = (uint8_t)base;
            const size_t length = codec_encode(context, (enum codec)codec, 1, page, bases[base],
                                               bytes + HEAD, PAGE_BYTES);
            if (length) {
                keep(bytes, HEAD + length);
            }
        }
    }
    for (unsigned number = 0; number < 48; number++) { /* groups of the bases */
        const unsigned codec = CODEC_GROUP_ZSTD + number % 3u, count = 1u + number / 3u % 16u;
        uint8_t *pages = allocate((size_t)count * PAGE_BYTES);
        uint8_t *made = allocate(HEAD + (size_t)count * PAGE_BYTES);
        group_encoder *encoder = group_encoder_new((enum codec)codec, 3, dictionary);
        for (unsigned i = 0; i < count; i++) {
            memcpy(pages + (size_t)i * PAGE_BYTES, bases[i * 5u % BASES], PAGE_BYTES);
        }
        const size_t length =
            encoder == NULL ? 0
                            : group_encode(encoder, pages, count, made + HEAD,
                                           (size_t)count * PAGE_BYTES);
        made[0] = TARGET_GROUP;
        made[1] = (uint8_t)number;
        if (length != 0 && length <= LONGEST - HEAD) {
            keep(made, HEAD + length);
        }
        group_encoder_free(encoder);
        free(made);
        free(pages);
    }
    for (unsigned target = TARGET_HEADER; target < TARGET_GROUP; target++) {
        for (unsigned i = 0; i < 8; i++) {
            const uint32_t length = 64u + below(960);
            bytes[0] = (uint8_t)target;
            bytes[1] = 0;
            for (uint32_t at = 0; at < length; at++) {
                bytes[HEAD + at] = (uint8_t)(below(3) ? 0 : below(256));
            }
            if (target == TARGET_HEADER) { /* two raw payloads and a patch */
                union extent_header header = {.prefix = {.end = 300, .used = 3}};
                for (unsigned slot = 1; slot <= 3; slot++) {
                    const unsigned codec = slot == 3 ? CODEC_ZSTD_PREFIX : 1u + below(13);
                    header.records[slot].place = (slot - 1u) * 100u | 99u << 20;
                    header.records[slot].kind = codec | 1u << 8;
                    header.records[slot].base = codec_is_patch(codec) ? 257u : 0u;
                }
                memcpy(bytes + HEAD, &header, 64);
            }
            keep(bytes, HEAD + length);
        }
    }
}

static size_t mutate(uint8_t *out, const struct input *input) {
    size_t size = input->size;
    memcpy(out, input->bytes, size);
    for (uint32_t changes = 1u + below(below(4) ? 3 : 16); changes--;) {
        const size_t room = size - HEAD;
        const uint32_t at = HEAD + (room ? below((uint32_t)room) : 0u);
        /* Most of what decides is at the begin. */
        uint32_t place = at;
        if (room && below(2)) {
            place = HEAD + below(room < 24 ? (uint32_t)room : 24u);
            if (room > PAGE_BYTES) { /* or of a page */
                place += PAGE_BYTES * below((uint32_t)(room / PAGE_BYTES));
            }
        }
        switch (below(10)) {
        case 0:
            size = HEAD + (room ? below((uint32_t)room + 1u) : 0u);
            break;
        case 1:
            for (uint32_t more = below(9); more-- && size < HEAD + LONGEST;) {
                out[size++] = (uint8_t)below(256);
            }
            break;
        case 2:
            out[1] = (uint8_t)below(BASES);
            break;
        case 3: /* pieces repeated elsewhere */
            if (room > 8) {
                const uint32_t length = 1u + below(room < 64 ? (uint32_t)room : 64u);
                const uint32_t from = HEAD + below((uint32_t)(room - length + 1u));
                const uint32_t to = HEAD + below((uint32_t)(room - length + 1u));
                memmove(out + to, out + from, length);
            }
            break;
        case 4: /* bytes of another input */
        {
            const unsigned target = input->bytes[0] % TARGETS;
            const struct input *other = &pool[target][below(pooled[target])];
            const size_t both = other->size < size ? other->size : size;
            if (both > HEAD) {
                const uint32_t begin = HEAD + below((uint32_t)(both - HEAD));
                memcpy(out + begin, other->bytes + begin, both - begin);
            }
            break;
        }
        case 5:
            if (room) {
                out[place] = (uint8_t)(below(2) ? 0xff : 0);
            }
            break;
        case 6:
            if (room) {
                out[place] = (uint8_t)below(256);
            }
            break;
        default:
            if (room) {
                out[place] ^= (uint8_t)(1u << below(8));
            }
        }
    }
    return size;
}

static struct input *read_input(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "decoders: %s cannot be read\n", path);
        exit(2);
    }
    struct input *input = malloc(sizeof *input);
    if (input == NULL) {
        abort();
    }
    input->bytes = allocate(HEAD + (1u << 20));
    input->size = fread(input->bytes, 1, HEAD + (1u << 20), file);
    fclose(file);
    return input;
}

/* Before each input it is noted, for whoever looks after a report. */
static uint8_t *noted;

static void note(const char *folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/last-input", folder);
    FILE *file = fopen(path, "w+b");
    if (file == NULL || ftruncate(fileno(file), 16 + HEAD + LONGEST)) {
        fprintf(stderr, "decoders: %s cannot be written\n", path);
        exit(2);
    }
    noted = mmap(NULL, 16 + HEAD + LONGEST, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    if (noted == MAP_FAILED) {
        abort();
    }
}

/* The codecs that take long have fewer turns: of a hundred, so many. */
static unsigned next_target(void) {
    static const uint8_t turns[TARGETS] = {0, 1, 1, 13, 17, 10, 17, 9, 17, 9,
                                           1, 1, 0, 0,  2,  1,  1,  0, 0};
    /* The slowest have a turn in some two hundred. */
    static const uint8_t slow[] = {CODEC_BWT_ZSTD, CODEC_BWT_PREFIX, TARGET_LMDB,
                                   TARGET_DICTIONARY};
    uint32_t turn = below(100);
    if (below(50) == 0) {
        return slow[below(4)];
    }
    for (unsigned target = 0; target < TARGETS; target++) {
        if (turn < turns[target]) {
            return target;
        }
        turn -= turns[target];
    }
    return CODEC_RAW;
}

static const uint8_t seeds_of_overrun[24];

int main(int argc, char **argv) {
    LLVMFuzzerInitialize(&argc, &argv);
    if (argc > 2 && strcmp(argv[1], "replay") == 0) {
        for (int i = 2; i < argc; i++) {
            struct input *input = read_input(argv[i]);
            uint8_t *exact = copy_of(input->bytes, input->size);
            LLVMFuzzerTestOneInput(exact, input->size);
            free(exact);
            free(input->bytes);
            free(input);
        }
        printf("%d inputs\n", argc - 2);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "overrun") == 0) {
        /* A mistake like those that are looked for: whether the sanitizers tell is to be seen. */
        uint8_t *exact = copy_of(seeds_of_overrun, sizeof seeds_of_overrun);
        const int behind = ((volatile uint8_t *)exact)[sizeof seeds_of_overrun];
        free(exact);
        return behind > 255;
    }
    if (argc < 4) {
        fprintf(stderr,
                "usage: decoders EXECUTIONS SEED FOUND-FOLDER [INPUT...] | replay INPUT... | overrun\n");
        return 2;
    }
    const uint64_t executions = strtoull(argv[1], NULL, 0);
    make_seeds();
    state ^= strtoull(argv[2], NULL, 0) * UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 4; i < argc; i++) {
        struct input *input = read_input(argv[i]);
        if (input->size > HEAD && input->size <= HEAD + LONGEST) {
            keep(input->bytes, input->size);
        }
        free(input->bytes);
        free(input);
    }
    note(argv[3]);
    static uint8_t mutated[HEAD + LONGEST + 16];
    for (uint64_t done = 0; done < executions; done++) {
        unsigned target = next_target();
        if (pooled[target] == 0) {
            target = CODEC_RAW;
        }
        const struct input *input = &pool[target][below(pooled[target])];
        const size_t size = mutate(mutated, input);
        memcpy(noted + 16, mutated, size);
        memcpy(noted, &size, sizeof size);
        LLVMFuzzerTestOneInput(mutated, size);
        counts[target]++;
        if (was_new()) {
            keep(mutated, size);
            accepted_inputs++;
        }
    }
    printf("{\"executions\": %llu, \"new\": %llu, \"targets\": [",
           (unsigned long long)executions, (unsigned long long)accepted_inputs);
    for (unsigned target = 0; target < TARGETS; target++) {
        printf("%s%llu", target ? ", " : "", (unsigned long long)counts[target]);
    }
    printf("]}\n");
    return 0;
}
#endif
