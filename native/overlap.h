/* For a sample of pages, which earlier pages have most in common with each: exact counts of common
 * windows, over all pages that pass by. Only the study uses it, as a measure for detectors.
 *
 * Windows are those of window_hashes() (page_features.h), told apart by 64-bit hashes; a window that is
 * in a page several times counts once.
 */
#ifndef DIFFFS_OVERLAP_H
#define DIFFFS_OVERLAP_H

#include <stddef.h>
#include <stdint.h>

#define OVERLAP_WINDOWS_MOST 512u
#define OVERLAP_BEST_MOST 16u

struct overlap_best {
    uint32_t number;
    uint32_t common; /* distinct windows in common; 0: no page */
};

struct overlap_window;

struct overlap {
    unsigned words;            /* of 8 bytes, in a window */
    unsigned best_count;       /* pages remembered for each of the sample */
    size_t sample_count;
    const uint32_t *numbers;   /* of the sample's pages, ascending; the caller's */
    struct overlap_window *table;
    size_t mask;
    uint32_t *members;         /* pages of the sample that have a window, for each in turn */
    uint32_t *common;          /* with the page that is looked at, for each of the sample */
    uint32_t *touched;
    struct overlap_best *best; /* best_count for each of the sample, most in common first */
    uint64_t looked_at;        /* pages */
};

/* Takes in the sample. Returns 0, or -1 without memory. */
int overlap_make(struct overlap *overlap, const uint8_t *pages, const uint32_t *numbers,
                 size_t count, unsigned words, unsigned best_count);
void overlap_free(struct overlap *overlap);

/* Compares a page with those of the sample that have larger numbers. Among pages with equally much
 * in common the last looked at comes first. */
void overlap_look(struct overlap *overlap, const uint8_t *page, uint32_t number);

#endif
