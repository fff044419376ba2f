#define _GNU_SOURCE
#include "answering.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* -- requests for others ------------------------------------------------------------------------ */

struct waiting_request {
    struct waiting_request *next;
    struct request_time time;
    size_t length;
    uint8_t bytes[];
};

int request_queue_init(struct request_queue *queue) {
    memset(queue, 0, sizeof *queue);
    return pthread_mutex_init(&queue->mutex, NULL) || pthread_cond_init(&queue->condition, NULL)
               ? -1
               : 0;
}

void request_queue_free(struct request_queue *queue) {
    while (queue->first != NULL) {
        struct waiting_request *next = queue->first->next;
        free(queue->first);
        queue->first = next;
    }
    pthread_cond_destroy(&queue->condition);
    pthread_mutex_destroy(&queue->mutex);
}

int request_queue_add(struct request_queue *queue, const void *request, size_t length,
                      struct request_time time) {
    struct waiting_request *added = malloc(sizeof *added + length);
    if (added == NULL) {
        return -1;
    }
    added->next = NULL;
    added->time = time;
    added->length = length;
    memcpy(added->bytes, request, length);
    pthread_mutex_lock(&queue->mutex);
    if (queue->first == NULL) {
        queue->first = added;
    } else {
        queue->last->next = added;
    }
    queue->last = added;
    pthread_cond_signal(&queue->condition);
    pthread_mutex_unlock(&queue->mutex);
    return 0;
}

void request_queue_end(struct request_queue *queue) {
    pthread_mutex_lock(&queue->mutex);
    queue->has_ended = 1;
    pthread_cond_broadcast(&queue->condition);
    pthread_mutex_unlock(&queue->mutex);
}

ssize_t request_queue_take(struct request_queue *queue, void *buffer, size_t size,
                           struct request_time *time) {
    pthread_mutex_lock(&queue->mutex);
    while (queue->first == NULL && !queue->has_ended) {
        pthread_cond_wait(&queue->condition, &queue->mutex);
    }
    struct waiting_request *taken = queue->first;
    if (taken != NULL) {
        queue->first = taken->next;
    }
    pthread_mutex_unlock(&queue->mutex);
    if (taken == NULL) {
        errno = ENODEV;
        return -1;
    }
    *time = taken->time;
    ssize_t length = taken->length <= size ? (ssize_t)taken->length : -1;
    if (length < 0) {
        errno = EIO;
    } else {
        memcpy(buffer, taken->bytes, taken->length);
    }
    free(taken);
    return length;
}

/* -- answers ------------------------------------------------------------------------------------ */

void answer_request(int file, uint64_t unique, struct request_time time, int error,
                    const void *data, size_t length) {
    struct fuse_out_header header = {
        .len = (uint32_t)(sizeof header + length), .error = -error, .unique = unique};
    struct iovec parts[2] = {{&header, sizeof header}, {(void *)data, length}};
    request_answered(time, -error);
    /* ENOENT: the request was interrupted; ENODEV: the mount is gone. */
    while (writev(file, parts, length == 0 ? 1 : 2) < 0 && errno == EINTR) {
    }
}

static uint8_t *room(size_t size) {
    uint8_t *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int answerer_init(struct answerer *answerer, int file, const struct data_path *path,
                  struct request_queue *others) {
    memset(answerer, 0, sizeof *answerer);
    answerer->file = file;
    answerer->path = path;
    answerer->others = others;
    answerer->reader = path->new_reader(path->self);
    answerer->request = room(REQUEST_BYTES); /* touched as far as requests are long */
    answerer->answer = room(ANSWER_BYTES);
    if (answerer->reader == NULL || answerer->request == NULL || answerer->answer == NULL) {
        answerer_free(answerer);
        return -1;
    }
    return 0;
}

void answerer_free(struct answerer *answerer) {
    if (answerer->reader != NULL) {
        answerer->path->free_reader(answerer->reader);
    }
    if (answerer->request != NULL) {
        munmap(answerer->request, REQUEST_BYTES);
    }
    if (answerer->answer != NULL) {
        munmap(answerer->answer, ANSWER_BYTES);
    }
    memset(answerer, 0, sizeof *answerer);
}

static int read_natively(struct answerer *self) {
    const struct fuse_in_header *header = (const void *)self->request;
    const struct fuse_read_in *in = (const void *)(header + 1);
    if (self->path->read(self->path->self, self->reader, in->fh, in->offset, in->size,
                         self->answer) == DATA_PATH_DONE) {
        answer_request(self->file, header->unique, self->time, 0, self->answer, in->size);
        return 1;
    }
    self->handle = in->fh;
    self->offset = in->offset;
    self->size = in->size;
    return 0;
}

static int write_natively(struct answerer *self) {
    const struct fuse_in_header *header = (const void *)self->request;
    const struct fuse_write_in *in = (const void *)(header + 1);
    const uint8_t *data = (const uint8_t *)(in + 1);
    if (self->path->write(self->path->self, in->fh, in->offset, in->size, data) ==
        DATA_PATH_DONE) {
        struct fuse_write_out out = {.size = in->size};
        answer_request(self->file, header->unique, self->time, 0, &out, sizeof out);
        return 1;
    }
    self->handle = in->fh;
    self->offset = in->offset;
    self->size = in->size;
    self->data = data;
    return 0;
}

static int punch_natively(struct answerer *self) {
    const struct fuse_in_header *header = (const void *)self->request;
    const struct fuse_fallocate_in *in = (const void *)(header + 1);
    if (in->mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) ||
        self->path->punch(self->path->self, in->fh, in->offset, in->length) != DATA_PATH_DONE) {
        return 0;
    }
    answer_request(self->file, header->unique, self->time, 0, NULL, 0);
    return 1;
}

static void pass_on(struct answerer *self, size_t length) {
    const struct fuse_in_header *header = (const void *)self->request;
    if (request_queue_add(self->others, self->request, length, self->time) &&
        header->opcode != FUSE_FORGET && header->opcode != FUSE_BATCH_FORGET) {
        answer_request(self->file, header->unique, self->time, ENOMEM, NULL, 0);
    }
}

/* Whether a request has all of what its kind begins with. */
static int is_whole(const struct fuse_in_header *header, size_t length, size_t arguments) {
    return length >= sizeof *header + arguments;
}

enum long_way answerer_next(struct answerer *self) {
    const struct fuse_in_header *header = (const void *)self->request;
    for (;;) {
        ssize_t got = read(self->file, self->request, REQUEST_BYTES);
        if (got <= 0) {
            /* ENOENT: a request that was interrupted before anybody saw it. */
            if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) {
                continue;
            }
            request_queue_end(self->others);
            return LONG_WAY_ENDED;
        }
        size_t length = (size_t)got;
        if (!is_whole(header, length, 0)) {
            continue;
        }
        self->unique = header->unique;
        self->time = request_received(header, length);
        switch (header->opcode) {
        case FUSE_READ:
            if (!is_whole(header, length, sizeof(struct fuse_read_in)) ||
                ((const struct fuse_read_in *)(header + 1))->size > ANSWER_BYTES) {
                break;
            }
            if (read_natively(self)) {
                continue;
            }
            return LONG_WAY_READ;
        case FUSE_WRITE:
            if (!is_whole(header, length, sizeof(struct fuse_write_in)) ||
                !is_whole(header, length,
                          sizeof(struct fuse_write_in) +
                              ((const struct fuse_write_in *)(header + 1))->size)) {
                break;
            }
            if (write_natively(self)) {
                continue;
            }
            return LONG_WAY_WRITE;
        case FUSE_FALLOCATE:
            if (is_whole(header, length, sizeof(struct fuse_fallocate_in)) &&
                punch_natively(self)) {
                continue;
            }
            break;
        case FUSE_FSYNC:
            self->handle = is_whole(header, length, sizeof(struct fuse_fsync_in))
                               ? ((const struct fuse_fsync_in *)(header + 1))->fh
                               : 0;
            return LONG_WAY_SYNC;
        case FUSE_FSYNCDIR:
            self->handle = 0;
            return LONG_WAY_SYNC;
        case FUSE_INTERRUPT:
            continue; /* nothing is left half done: a request is answered when it is answered */
        default:
            break;
        }
        pass_on(self, length);
    }
}
