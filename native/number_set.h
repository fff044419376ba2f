/* A set of numbers below 2^24: a bit each, and above each 64 words a bit that tells whether any of
 * their bits is set. So adding, removing and finding the next member take four steps at most. */
#ifndef DIFFFS_NUMBER_SET_H
#define DIFFFS_NUMBER_SET_H

#include <stdint.h>

#define NUMBER_SET_LEVELS 4u
#define NUMBER_SET_NONE UINT32_MAX

/* All zeros is the empty set, which has room for nothing. */
struct number_set {
    uint64_t *levels[NUMBER_SET_LEVELS]; /* the members' own bits first */
    uint32_t capacity;
    uint32_t count;
};

/* Makes room for numbers below capacity. Returns 0, or -1 without memory: the set is as it was. */
int number_set_grow(struct number_set *set, uint32_t capacity);
void number_set_free(struct number_set *set);

/* The number is below the capacity. */
void number_set_add(struct number_set *set, uint32_t number);
void number_set_remove(struct number_set *set, uint32_t number);

/* The first member from `from` on, or NUMBER_SET_NONE. */
uint32_t number_set_next(const struct number_set *set, uint32_t from);

#endif
