/* What answers requests for the bytes of open volumes, as whoever answers a kernel sees it: a table of
 * functions, so that neither side knows the other. native/volume_pages.c fills it in.
 *
 * Each function may be called by any number of threads at once, without Python's lock. None of them
 * waits for a disk but for the payloads of the pages asked for, for room, or for another request.
 * What that leaves to be done takes the long way: the volumes in Python. */
#ifndef DIFFFS_DATA_PATH_H
#define DIFFFS_DATA_PATH_H

#include <stddef.h>
#include <stdint.h>

enum data_path_answer {
    DATA_PATH_DONE = 0,
    DATA_PATH_LONG_WAY = 1, /* nothing was changed, and nothing is promised of the bytes of a read */
};

/* What one thread reads with. */
struct page_reader;

struct data_path {
    void *self;
    /* NULL without memory. */
    struct page_reader *(*new_reader)(void *self);
    void (*free_reader)(struct page_reader *reader);
    /* Fills out with whole pages from within the volume that `handle` stands for. */
    enum data_path_answer (*read)(void *self, struct page_reader *reader, uint64_t handle,
                                  uint64_t offset, size_t size, uint8_t *out);
    /* Takes whole pages within the volume, through a handle for writing. */
    enum data_path_answer (*write)(void *self, uint64_t handle, uint64_t offset, size_t size,
                                   const uint8_t *data);
    /* Makes whole pages within the volume holes. */
    enum data_path_answer (*punch)(void *self, uint64_t handle, uint64_t offset, uint64_t size);
};

#endif
