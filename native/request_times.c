#include "request_times.h"

#include <errno.h>
#include <linux/fuse.h>
#include <time.h>

#include "page.h"

const uint64_t request_time_bounds[REQUEST_TIME_BOUNDS] = {
    1000u,        2000u,        5000u,         10000u,        20000u,      50000u,
    100000u,      200000u,      500000u,       1000000u,      2000000u,    5000000u,
    10000000u,    20000000u,    50000000u,     100000000u,    200000000u,  500000000u,
    1000000000u,  2000000000u,  5000000000u,   10000000000u,
};

/* Counters are added to without a lock, by each thread that answers. */
static struct request_totals totals;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void add(uint64_t *counter, uint64_t amount) {
    __atomic_fetch_add(counter, amount, __ATOMIC_RELAXED);
}

static enum request_kind kind_of(const struct fuse_in_header *header, size_t size) {
    switch (header->opcode) {
    case FUSE_READ:
        if (size >= sizeof *header + sizeof(struct fuse_read_in)) {
            uint32_t asked = ((const struct fuse_read_in *)(header + 1))->size;
            return asked <= PAGE_BYTES       ? REQUEST_PAGE_READ
                   : asked <= 8 * PAGE_BYTES ? REQUEST_SHORT_READ
                                             : REQUEST_LONG_READ;
        }
        return REQUEST_OTHER;
    case FUSE_WRITE:
        return REQUEST_WRITE;
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
        return REQUEST_SYNC;
    default:
        return REQUEST_OTHER;
    }
}

struct request_time request_received(const void *request, size_t size) {
    return (struct request_time){now(), kind_of(request, size)};
}

void request_answered(struct request_time request, int32_t error) {
    uint64_t taken = now() - request.started;
    unsigned bound = 0;
    while (bound < REQUEST_TIME_BOUNDS && taken > request_time_bounds[bound]) {
        bound++;
    }
    add(&totals.counts[request.kind][bound], 1);
    add(&totals.nanoseconds[request.kind], taken);
    if (error == -EIO) {
        add(&totals.failures[FAILURE_IO], 1);
    } else if (error == -ENOSPC) {
        add(&totals.failures[FAILURE_NO_SPACE], 1);
    }
}

void copy_request_totals(struct request_totals *out) {
    const uint64_t *from = (const uint64_t *)&totals;
    uint64_t *to = (uint64_t *)out;
    for (size_t i = 0; i < sizeof totals / sizeof *from; i++) {
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    }
}
