/* Threads that answer the kernel's requests for the bytes of open files, by <linux/fuse.h>; everything
 * else goes through a queue to whoever knows names: libfuse.
 *
 * One `struct answerer` a thread. Nothing here knows Python or its lock. */
#ifndef DIFFFS_ANSWERING_H
#define DIFFFS_ANSWERING_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "data_path.h"
#include "request_times.h"

#define ANSWER_BYTES (1u << 20)              /* of the largest read or write */
#define REQUEST_BYTES (ANSWER_BYTES + 4096u) /* what the kernel demands room for */

/* Requests that wait for one reader, in their order. */
struct waiting_request;
struct request_queue {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    struct waiting_request *first;
    struct waiting_request *last;
    int has_ended;
};

int request_queue_init(struct request_queue *queue);
void request_queue_free(struct request_queue *queue);
/* Adds a copy. Returns 0, or -1 without memory. */
int request_queue_add(struct request_queue *queue, const void *request, size_t length,
                      struct request_time time);
/* Nothing comes any more: take() returns what there is, and then -1 with ENODEV. */
void request_queue_end(struct request_queue *queue);
/* Waits for a request and copies it to the buffer; its length. */
ssize_t request_queue_take(struct request_queue *queue, void *buffer, size_t size,
                           struct request_time *time);

/* What an answerer leaves to its caller: requests that have to take the long way. */
enum long_way {
    LONG_WAY_ENDED = 0, /* none: the mount is gone */
    LONG_WAY_READ = 1,
    LONG_WAY_WRITE = 2,
    LONG_WAY_SYNC = 3,
};

struct answerer {
    int file; /* the kernel's; nobody else's to close */
    const struct data_path *path;
    struct request_queue *others;
    struct page_reader *reader;
    uint8_t *request; /* REQUEST_BYTES */
    uint8_t *answer;  /* ANSWER_BYTES */
    /* Of a request that takes the long way: */
    struct request_time time;
    uint64_t unique;
    uint64_t handle;
    uint64_t offset;
    uint32_t size;
    const uint8_t *data; /* of a write */
};

/* Returns 0, or -1 without memory. */
int answerer_init(struct answerer *answerer, int file, const struct data_path *path,
                  struct request_queue *others);
void answerer_free(struct answerer *answerer);

/* Answers requests until one comes that takes the long way, or the mount ends. */
enum long_way answerer_next(struct answerer *answerer);

/* Answers a request: an error (positive), or 0 and so many bytes. That the kernel does not want the
 * answer any more is no error. */
void answer_request(int file, uint64_t unique, struct request_time time, int error,
                    const void *data, size_t length);

#endif
