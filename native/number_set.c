#include "number_set.h"

#include <stdlib.h>
#include <string.h>

static uint32_t words_for(uint32_t bits) { return bits / 64u + (bits % 64u != 0); }

int number_set_grow(struct number_set *set, uint32_t capacity) {
    if (capacity <= set->capacity) {
        return 0;
    }
    uint32_t bits = capacity;
    uint32_t former_bits = set->capacity;
    for (uint32_t level = 0; level < NUMBER_SET_LEVELS; level++) {
        uint32_t words = words_for(bits);
        uint32_t former = words_for(former_bits);
        if (words > former) {
            /* A level that has grown before another one could not is only larger than needed. */
            uint64_t *grown = realloc(set->levels[level], (size_t)words * sizeof *grown);
            if (grown == NULL) {
                return -1;
            }
            memset(grown + former, 0, (size_t)(words - former) * sizeof *grown);
            set->levels[level] = grown;
        }
        bits = words;
        former_bits = former;
    }
    set->capacity = capacity;
    return 0;
}

void number_set_free(struct number_set *set) {
    for (uint32_t level = 0; level < NUMBER_SET_LEVELS; level++) {
        free(set->levels[level]);
    }
    memset(set, 0, sizeof *set);
}

void number_set_add(struct number_set *set, uint32_t number) {
    uint64_t bit = UINT64_C(1) << number % 64u;
    set->count += (set->levels[0][number / 64u] & bit) == 0;
    for (uint32_t level = 0; level < NUMBER_SET_LEVELS; level++) {
        set->levels[level][number / 64u] |= UINT64_C(1) << number % 64u;
        number /= 64u;
    }
}

void number_set_remove(struct number_set *set, uint32_t number) {
    uint64_t bit = UINT64_C(1) << number % 64u;
    set->count -= (set->levels[0][number / 64u] & bit) != 0;
    for (uint32_t level = 0; level < NUMBER_SET_LEVELS; level++) {
        uint64_t *word = &set->levels[level][number / 64u];
        *word &= ~(UINT64_C(1) << number % 64u);
        if (*word != 0) {
            return;
        }
        number /= 64u;
    }
}

uint32_t number_set_next(const struct number_set *set, uint32_t from) {
    uint32_t bits = set->capacity;
    for (uint32_t level = 0; level < NUMBER_SET_LEVELS && from < bits; level++) {
        uint64_t rest = set->levels[level][from / 64u] >> from % 64u;
        if (rest != 0) {
            from += (uint32_t)__builtin_ctzll(rest);
            while (level-- != 0) {
                from = from * 64u + (uint32_t)__builtin_ctzll(set->levels[level][from]);
            }
            return from;
        }
        from = from / 64u + 1u;
        bits = words_for(bits);
    }
    return NUMBER_SET_NONE;
}
