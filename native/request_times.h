/* How long the kernel's requests take, from their receipt to the answer, and which fail. */
#ifndef DIFFFS_REQUEST_TIMES_H
#define DIFFFS_REQUEST_TIMES_H

#include <stddef.h>
#include <stdint.h>

/* What a request is about; reads by how many pages they ask for. */
enum request_kind {
    REQUEST_PAGE_READ = 0,  /* at most one page */
    REQUEST_SHORT_READ = 1, /* 2 to 8 */
    REQUEST_LONG_READ = 2,  /* more */
    REQUEST_WRITE = 3,
    REQUEST_SYNC = 4, /* FSYNC, FSYNCDIR */
    REQUEST_OTHER = 5,
};
#define REQUEST_KINDS 6

/* 1, 2, 5, 10, ... us to 10 s; what takes longer is counted behind them. */
#define REQUEST_TIME_BOUNDS 22
extern const uint64_t request_time_bounds[REQUEST_TIME_BOUNDS]; /* nanoseconds */

/* Failures that have their own counters: those that lose or refuse data. */
enum request_failure {
    FAILURE_IO = 0,       /* EIO */
    FAILURE_NO_SPACE = 1, /* ENOSPC */
};
#define REQUEST_FAILURES 2

struct request_totals {
    uint64_t counts[REQUEST_KINDS][REQUEST_TIME_BOUNDS + 1]; /* by the first bound not exceeded */
    uint64_t nanoseconds[REQUEST_KINDS];
    uint64_t failures[REQUEST_FAILURES];
};

/* When a request came, and what it is about. */
struct request_time {
    uint64_t started;
    enum request_kind kind;
};

/* Of a request of so many bytes, at least a header's, that has just been received. */
struct request_time request_received(const void *request, size_t size);

/* To be called once, before the answer is handed to the kernel; `error` as in struct
 * fuse_out_header. */
void request_answered(struct request_time request, int32_t error);

/* What was counted in this process, by all threads together; from any thread. */
void copy_request_totals(struct request_totals *out);

#endif
