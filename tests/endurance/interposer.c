/*
 * Sees, records, fails, delays and kills at the calls by which one process changes one store.
 *
 * Preloaded (LD_PRELOAD). It does nothing until endurance_begin() is called, and nothing in
 * children.
 *
 * A *point* is FILE:CALL, such as "payloads:fdatasync"; files have the names of file_name(). Writes
 * of LMDB's meta pages, which end a commit, are "index:meta". Calls are counted by point, from the
 * beginning and from the last commit's end; a *rule* names a point, which of its calls, and what
 * happens then.
 *
 * The record is one file that only grows. What changes a file is done and recorded under one lock,
 * so records have the order of what they tell. Of a synchronising call both ends are recorded.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

enum {
    NAME_BYTES = 48,
    POINT_LIMIT = 192,
    RULE_LIMIT = 32,
    FILE_LIMIT = 8192,
    OBJECT_LIMIT = 4096
};
enum { MAPPING_LIMIT = 16 };

/* Kinds of records; tests/endurance/record.py has the same. */
enum record_kind {
    CREATED = 1,
    FOUND,     /* an existing file is opened for the first time */
    WRITTEN,   /* offset, data; flag 1: it is durable when the call returns */
    RESIZED,   /* offset: the new size */
    PUNCHED,   /* offset, length */
    ALLOCATED, /* offset, length: the file is at least so long */
    SYNC_BEGAN,
    SYNC_ENDED, /* length: the number of its SYNC_BEGAN */
    RENAMED,    /* name, then a zero byte, then the new name as data */
    UNLINKED,
    DIRECTORY_MADE,
    DIRECTORY_REMOVED,
    DIRECTORY_SYNCED,
    MAPPED_STATE, /* offset, data: what a shared mapping holds now */
    SYNC_FAILED,  /* what was not on the medium may never get there */
};

struct record {
    uint32_t magic;
    uint32_t kind;
    uint64_t object;
    int64_t offset;
    int64_t length;
    uint32_t flags;
    uint32_t name_bytes;
    uint64_t data_bytes;
};

enum action { KILL = 1, FAIL, SHORT, SWALLOW, DELAY };
enum position { BEFORE, AMIDST, AFTER };

struct rule {
    char point[NAME_BYTES];
    int action;
    int64_t nth; /* from 1; 0: each */
    int since_commit;
    int position;
    int error;
    int times; /* how often it may happen; -1: for ever */
    int delay_milliseconds;
};

struct point {
    char name[NAME_BYTES];
    uint64_t calls;
    uint64_t since_commit;
    uint64_t most_since_commit;
    uint64_t commit;  /* number of the commit that since_commit is counted in */
    uint64_t changes; /* 0: only reads */
};

/* Shared with who started the process, and outlives it; tests/endurance/points.py has the same. */
struct board {
    char killed_at[NAME_BYTES];
    int64_t killed_nth;
    int64_t killed_position;
    int64_t failed; /* calls that were failed or cut short */
    int64_t commits;
    uint64_t point_count;
    struct point points[POINT_LIMIT];
};

struct open_file {
    char name[NAME_BYTES]; /* empty: not of the store */
    uint64_t object;       /* 0: a directory */
    bool durable;          /* O_DSYNC or O_SYNC */
};

struct known_object {
    uint64_t inode;
    uint64_t object;
};

struct mapping {
    char *address;
    size_t length;
    uint64_t object;
    int64_t offset;
    char *former; /* what was recorded last */
};

static struct {
    pid_t process; /* the one that is watched; 0: none */
    char store[PATH_MAX];
    size_t store_length;
    int log;
    struct board *board;
    pthread_mutex_t lock;
    struct rule rules[RULE_LIMIT];
    size_t rule_count;
    struct open_file files[FILE_LIMIT];
    struct known_object objects[OBJECT_LIMIT];
    size_t object_count;
    uint64_t last_object;
    uint64_t last_sync;
    struct mapping mappings[MAPPING_LIMIT];
} watched = {.log = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) {
        dprintf(2, "interposer: no %s\n", name);
        abort();
    }
    return found;
}

/* A child that shares or copies this memory (vfork, fork) is not watched. */
static bool is_watching(void) {
    return watched.process != 0 && watched.process == getpid();
}

static void copy_name(char *to, const char *from) {
    snprintf(to, NAME_BYTES, "%.*s", NAME_BYTES - 1, from);
}

/* The name in points of a path below the store; NULL for others. */
static const char *file_name(const char *path) {
    static const char *const names[][2] = {
        {"index-2/data.mdb", "index"},
        {"index-2/compact/data.mdb", "compact"},
        {"index-2/compact", "compact.directory"},
        {"index-2", "index.directory"},
        {"", "store.directory"},
    };
    if (strncmp(path, watched.store, watched.store_length) != 0) {
        return NULL;
    }
    path += watched.store_length;
    if (*path != '/' && *path != 0) {
        return NULL;
    }
    while (*path == '/') {
        path++;
    }
    for (size_t i = 0; i < LENGTH(names); i++) {
        if (strcmp(path, names[i][0]) == 0) {
            return names[i][1];
        }
    }
    return path;
}

/* Below the store; "" for the store itself. */
static const char *relative(const char *path) {
    path += watched.store_length;
    while (*path == '/') {
        path++;
    }
    return path;
}

/* The absolute path of one given to a call; false when it is too long. */
static bool absolute(int directory, const char *path, char *out) {
    if (path[0] == '/') {
        return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
    }
    char base[PATH_MAX];
    if (directory == AT_FDCWD) {
        if (getcwd(base, sizeof base) == NULL) {
            return false;
        }
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) {
            return false;
        }
        base[length] = 0;
    }
    size_t length = strlen(base);
    if (length + strlen(path) + 2 > PATH_MAX) {
        return false;
    }
    memcpy(out, base, length);
    out[length] = '/';
    strcpy(out + length + 1, path);
    return true;
}

static void append_record(struct record record, const char *name, const void *data) {
    if (watched.log < 0) {
        return;
    }
    record.magic = 0x44524345;
    record.name_bytes = (uint32_t)strlen(name);
    struct iovec parts[] = {{&record, sizeof record},
                            {(void *)(uintptr_t)name, record.name_bytes},
                            {(void *)(uintptr_t)data, record.data_bytes}};
    ssize_t whole = (ssize_t)(sizeof record + record.name_bytes + record.data_bytes);
    if (REAL(writev)(watched.log, parts, 3) != whole) {
        dprintf(2, "interposer: the record cannot be written\n");
        abort();
    }
}

/* What mapped files hold, where it has changed. The lock is held. */
static void record_mappings(void) {
    if (watched.log < 0) {
        return;
    }
    for (size_t i = 0; i < MAPPING_LIMIT; i++) {
        struct mapping *each = &watched.mappings[i];
        if (each->address == NULL || memcmp(each->former, each->address, each->length) == 0) {
            continue;
        }
        memcpy(each->former, each->address, each->length);
        append_record((struct record){.kind = MAPPED_STATE,
                                      .object = each->object,
                                      .offset = each->offset,
                                      .data_bytes = each->length},
                      "", each->former);
    }
}

static void wait_milliseconds(int milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) {
    }
}

/* What is to happen with one call. */
struct verdict {
    int error;     /* it fails so */
    bool is_short; /* half of it is done */
    bool swallowed;
    bool kill_amidst, kill_after;
    int64_t nth;
    char point[NAME_BYTES];
    int delay_milliseconds;
};

static void die(const struct verdict *verdict, int position) {
    if (verdict->delay_milliseconds > 0) {
        wait_milliseconds(verdict->delay_milliseconds);
    }
    copy_name(watched.board->killed_at, verdict->point);
    watched.board->killed_nth = verdict->nth;
    watched.board->killed_position = position;
    kill(watched.process, SIGKILL);
    for (;;) {
        pause();
    }
}

/* Counts a call and says what is to happen. Waits, and dies, without the lock. */
static struct verdict meet(const char *file, const char *call, bool changes) {
    struct verdict verdict = {0};
    bool kill_before = false;
    int delay = 0;
    if (snprintf(verdict.point, NAME_BYTES, "%s:%s", file, call) >= NAME_BYTES) {
        abort();
    }
    pthread_mutex_lock(&watched.lock);
    struct board *board = watched.board;
    size_t at = 0;
    while (at < board->point_count && strcmp(board->points[at].name, verdict.point) != 0) {
        at++;
    }
    if (at == POINT_LIMIT) {
        dprintf(2, "interposer: too many points\n");
        abort();
    }
    struct point *point = &board->points[at];
    if (at == board->point_count) {
        copy_name(point->name, verdict.point);
        point->changes = changes;
        board->point_count++;
    }
    if (point->commit != (uint64_t)board->commits) {
        point->commit = (uint64_t)board->commits;
        point->since_commit = 0;
    }
    point->calls++;
    point->since_commit++;
    if (point->since_commit > point->most_since_commit) {
        point->most_since_commit = point->since_commit;
    }
    for (size_t i = 0; i < watched.rule_count; i++) {
        struct rule *rule = &watched.rules[i];
        if (strcmp(rule->point, verdict.point) != 0 || rule->times == 0) {
            continue;
        }
        int64_t count = (int64_t)(rule->since_commit ? point->since_commit : point->calls);
        /* what happens for ever begins with the nth */
        if (rule->nth != 0 && count != rule->nth && !(rule->times < 0 && count > rule->nth)) {
            continue;
        }
        if (rule->times > 0) {
            rule->times--;
        }
        verdict.nth = count;
        switch (rule->action) {
        case KILL:
            verdict.delay_milliseconds = rule->delay_milliseconds;
            kill_before = rule->position == BEFORE;
            verdict.kill_amidst = rule->position == AMIDST;
            verdict.kill_after = rule->position == AFTER;
            break;
        case FAIL:
            verdict.error = rule->error;
            board->failed++;
            break;
        case SHORT:
            verdict.is_short = true;
            board->failed++;
            break;
        case SWALLOW:
            verdict.swallowed = true;
            break;
        case DELAY:
            delay += rule->delay_milliseconds;
            break;
        }
    }
    pthread_mutex_unlock(&watched.lock);
    if (delay > 0) {
        wait_milliseconds(delay);
    }
    if (kill_before) {
        die(&verdict, BEFORE);
    }
    return verdict;
}

static void after(const struct verdict *verdict) {
    if (verdict->kill_amidst) {
        die(verdict, AMIDST);
    }
    if (verdict->kill_after) {
        die(verdict, AFTER);
    }
}

static int refused(int error) {
    errno = error;
    return -1;
}

static struct open_file *file_of(int descriptor) {
    if (!is_watching() || descriptor < 0 || descriptor >= FILE_LIMIT) {
        return NULL;
    }
    return watched.files[descriptor].name[0] ? &watched.files[descriptor] : NULL;
}

/* -- beginning ------------------------------------------------------------------------------- */

/* Watches this process's calls for the store, an absolute path without links. `log` may be empty.
 */
EXPORT int endurance_begin(const char *store, const char *log, const char *board) {
    if (strlen(store) >= sizeof watched.store) {
        return refused(ENAMETOOLONG);
    }
    strcpy(watched.store, store);
    watched.store_length = strlen(store);
    int file = REAL(open64)(board, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || REAL(ftruncate64)(file, sizeof *watched.board) != 0) {
        return -1;
    }
    watched.board =
        REAL(mmap64)(NULL, sizeof *watched.board, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REAL(close)(file);
    if (watched.board == MAP_FAILED) {
        return -1;
    }
    if (*log) {
        watched.log = REAL(open64)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (watched.log < 0) {
            return -1;
        }
    }
    watched.process = getpid();
    return 0;
}

EXPORT int endurance_rule(const char *point, int action, int64_t nth, int since_commit,
                          int position, int error, int times, int delay_milliseconds) {
    if (watched.rule_count == RULE_LIMIT) {
        return refused(ENOBUFS);
    }
    struct rule *rule = &watched.rules[watched.rule_count++];
    *rule = (struct rule){.action = action,
                          .nth = nth,
                          .since_commit = since_commit,
                          .position = position,
                          .error = error,
                          .times = times,
                          .delay_milliseconds = delay_milliseconds};
    copy_name(rule->point, point);
    return 0;
}

EXPORT size_t endurance_board_bytes(void) {
    return sizeof(struct board);
}

/* -- opening --------------------------------------------------------------------------------- */

/* The number of an open file's object. The lock is held. */
static uint64_t object_of(int descriptor, const char *path, bool created) {
    struct stat status;
    if (fstat(descriptor, &status) != 0) {
        abort();
    }
    struct known_object *found = NULL;
    for (size_t i = 0; i < watched.object_count; i++) {
        if (watched.objects[i].inode == status.st_ino) {
            found = &watched.objects[i];
        }
    }
    if (found != NULL && !created) {
        return found->object;
    }
    if (found == NULL) {
        if (watched.object_count == OBJECT_LIMIT) {
            abort();
        }
        found = &watched.objects[watched.object_count++];
        found->inode = status.st_ino;
    }
    found->object = ++watched.last_object;
    append_record((struct record){.kind = created ? CREATED : FOUND, .object = found->object},
                  relative(path), NULL);
    return found->object;
}

static int open_watched(int directory, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    const char *name = NULL;
    if (is_watching() && absolute(directory, path, whole)) {
        name = file_name(whole);
    }
    if (name == NULL || (flags & O_PATH) == O_PATH || (flags & O_TMPFILE) == O_TMPFILE) {
        int opened = REAL(openat64)(directory, path, flags, mode);
        if (opened >= 0 && opened < FILE_LIMIT && is_watching()) {
            watched.files[opened].name[0] = 0;
        }
        return opened;
    }
    bool creates = (flags & O_CREAT) && faccessat(AT_FDCWD, whole, F_OK, 0) != 0;
    struct verdict verdict = meet(name, creates ? "create" : "open", creates || (flags & O_TRUNC));
    if (verdict.error) {
        return refused(verdict.error);
    }
    pthread_mutex_lock(&watched.lock);
    int opened = REAL(openat64)(directory, path, flags, mode);
    if (opened >= FILE_LIMIT) {
        abort();
    }
    if (opened >= 0) {
        struct open_file *file = &watched.files[opened];
        struct stat status;
        if (fstat(opened, &status) != 0) {
            abort();
        }
        copy_name(file->name, name);
        file->durable = (flags & O_DSYNC) != 0;
        file->object = S_ISREG(status.st_mode) ? object_of(opened, whole, creates) : 0;
        if ((flags & O_TRUNC) && !creates) {
            append_record((struct record){.kind = RESIZED, .object = file->object}, "", NULL);
        }
    }
    int error = errno;
    pthread_mutex_unlock(&watched.lock);
    after(&verdict);
    errno = error;
    return opened;
}

#define OPENING(name, first, directory)                                                            \
    EXPORT int name(first const char *path, int flags, ...) {                                      \
        mode_t mode = 0;                                                                           \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                       \
            va_list more;                                                                          \
            va_start(more, flags);                                                                 \
            mode = va_arg(more, mode_t);                                                           \
            va_end(more);                                                                          \
        }                                                                                          \
        return open_watched(directory, path, flags, mode);                                         \
    }
#define NOTHING
#define DIRECTORY int directory,
OPENING(open, NOTHING, AT_FDCWD)
OPENING(open64, NOTHING, AT_FDCWD)
OPENING(openat, DIRECTORY, directory)
OPENING(openat64, DIRECTORY, directory)

EXPORT int close(int descriptor) {
    struct open_file *file = file_of(descriptor);
    if (file != NULL) {
        file->name[0] = 0;
    }
    return REAL(close)(descriptor);
}

/* -- writing --------------------------------------------------------------------------------- */

static ssize_t write_watched(int descriptor, const struct iovec *parts, int count, off64_t offset) {
    struct open_file *file = file_of(descriptor);
    bool ends_commit = file->durable && strcmp(file->name, "index") == 0;
    struct verdict verdict = meet(file->name, ends_commit ? "meta" : "pwrite", true);
    if (verdict.error) {
        return refused(verdict.error);
    }
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        length += parts[i].iov_len;
    }
    char *bytes = malloc(length + 1);
    if (bytes == NULL) {
        abort();
    }
    char *to = bytes;
    for (int i = 0; i < count; i++) {
        to = mempcpy(to, parts[i].iov_base, parts[i].iov_len);
    }
    if (verdict.is_short || verdict.kill_amidst) {
        length = (length + 1) / 2;
    }
    pthread_mutex_lock(&watched.lock);
    if (offset < 0) {
        offset = lseek64(descriptor, 0, SEEK_CUR);
    }
    ssize_t written = REAL(pwrite64)(descriptor, bytes, length, offset);
    int error = errno;
    if (written >= 0) {
        bool durable = file->durable && !verdict.swallowed;
        append_record((struct record){.kind = WRITTEN,
                                      .object = file->object,
                                      .offset = offset,
                                      .length = written,
                                      .flags = durable,
                                      .data_bytes = (uint64_t)written},
                      "", bytes);
        if (ends_commit) {
            watched.board->commits++;
            record_mappings();
        }
    }
    pthread_mutex_unlock(&watched.lock);
    free(bytes);
    after(&verdict);
    errno = error;
    return written;
}

static ssize_t write_at(int descriptor, const void *data, size_t length, off64_t offset) {
    struct iovec part = {(void *)(uintptr_t)data, length};
    return write_watched(descriptor, &part, 1, offset);
}

EXPORT ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset) {
    if (file_of(descriptor) == NULL) {
        return REAL(pwrite)(descriptor, data, length, offset);
    }
    return write_at(descriptor, data, length, offset);
}

EXPORT ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset) {
    if (file_of(descriptor) == NULL) {
        return REAL(pwrite64)(descriptor, data, length, offset);
    }
    return write_at(descriptor, data, length, offset);
}

EXPORT ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    if (file_of(descriptor) == NULL) {
        return REAL(pwritev)(descriptor, parts, count, offset);
    }
    return write_watched(descriptor, parts, count, offset);
}

EXPORT ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset) {
    if (file_of(descriptor) == NULL) {
        return REAL(pwritev64)(descriptor, parts, count, offset);
    }
    return write_watched(descriptor, parts, count, offset);
}

EXPORT ssize_t write(int descriptor, const void *data, size_t length) {
    struct open_file *file = file_of(descriptor);
    if (file == NULL) {
        return REAL(write)(descriptor, data, length);
    }
    int64_t at = fcntl(descriptor, F_GETFL) & O_APPEND ? lseek64(descriptor, 0, SEEK_END)
                                                       : lseek64(descriptor, 0, SEEK_CUR);
    ssize_t written = write_at(descriptor, data, length, at);
    if (written > 0) {
        lseek64(descriptor, at + written, SEEK_SET);
    }
    return written;
}

EXPORT ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    if (file_of(descriptor) == NULL) {
        return REAL(writev)(descriptor, parts, count);
    }
    int64_t at = lseek64(descriptor, 0, SEEK_CUR);
    ssize_t written = write_watched(descriptor, parts, count, at);
    if (written > 0) {
        lseek64(descriptor, at + written, SEEK_SET);
    }
    return written;
}

static int resize(int descriptor, off64_t size) {
    struct open_file *file = file_of(descriptor);
    if (file == NULL) {
        return REAL(ftruncate64)(descriptor, size);
    }
    struct verdict verdict = meet(file->name, "ftruncate", true);
    if (verdict.error) {
        return refused(verdict.error);
    }
    pthread_mutex_lock(&watched.lock);
    int result = REAL(ftruncate64)(descriptor, size);
    int error = errno;
    if (result == 0) {
        append_record((struct record){.kind = RESIZED, .object = file->object, .offset = size}, "",
                      NULL);
    }
    pthread_mutex_unlock(&watched.lock);
    after(&verdict);
    errno = error;
    return result;
}

EXPORT int ftruncate(int descriptor, off_t size) {
    return resize(descriptor, size);
}
EXPORT int ftruncate64(int descriptor, off64_t size) {
    return resize(descriptor, size);
}

static int change_blocks(int descriptor, int mode, off64_t offset, off64_t length) {
    struct open_file *file = file_of(descriptor);
    if (file == NULL) {
        return REAL(fallocate64)(descriptor, mode, offset, length);
    }
    bool punches = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
    struct verdict verdict = meet(file->name, punches ? "punch" : "fallocate", true);
    if (verdict.error) {
        return refused(verdict.error);
    }
    if (verdict.is_short || verdict.kill_amidst) {
        length = (length + 1) / 2;
    }
    pthread_mutex_lock(&watched.lock);
    int result = REAL(fallocate64)(descriptor, mode, offset, length);
    int error = errno;
    if (result == 0) {
        append_record((struct record){.kind = punches ? PUNCHED : ALLOCATED,
                                      .object = file->object,
                                      .offset = offset,
                                      .length = length},
                      "", NULL);
    }
    pthread_mutex_unlock(&watched.lock);
    after(&verdict);
    if (result == 0 && verdict.is_short) {
        return refused(ENOSPC);
    }
    errno = error;
    return result;
}

EXPORT int fallocate(int descriptor, int mode, off_t offset, off_t length) {
    return change_blocks(descriptor, mode, offset, length);
}

EXPORT int fallocate64(int descriptor, int mode, off64_t offset, off64_t length) {
    return change_blocks(descriptor, mode, offset, length);
}

static int allocate(int descriptor, off64_t offset, off64_t length) {
    if (file_of(descriptor) == NULL) {
        return REAL(posix_fallocate64)(descriptor, offset, length);
    }
    return change_blocks(descriptor, 0, offset, length) == 0 ? 0 : errno;
}

EXPORT int posix_fallocate(int descriptor, off_t offset, off_t length) {
    return allocate(descriptor, offset, length);
}

EXPORT int posix_fallocate64(int descriptor, off64_t offset, off64_t length) {
    return allocate(descriptor, offset, length);
}

/* -- synchronising --------------------------------------------------------------------------- */

static int synchronise(int descriptor, const char *call, int (*operation)(int)) {
    struct open_file *file = file_of(descriptor);
    if (file == NULL) {
        return operation(descriptor);
    }
    struct verdict verdict = meet(file->name, call, true);
    if (verdict.error) {
        pthread_mutex_lock(&watched.lock);
        append_record((struct record){.kind = SYNC_FAILED, .object = file->object}, "", NULL);
        pthread_mutex_unlock(&watched.lock);
        return refused(verdict.error);
    }
    pthread_mutex_lock(&watched.lock);
    record_mappings();
    uint64_t number = ++watched.last_sync, object = file->object;
    char name[PATH_MAX] = "";
    if (object == 0) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        ssize_t length = readlink(link, name, sizeof name - 1);
        name[length > 0 ? length : 0] = 0;
        memmove(name, relative(name), strlen(relative(name)) + 1);
    }
    if (object != 0 && !verdict.swallowed) {
        append_record(
            (struct record){.kind = SYNC_BEGAN, .object = object, .length = (int64_t)number}, "",
            NULL);
    }
    pthread_mutex_unlock(&watched.lock);
    int result = verdict.swallowed ? 0 : operation(descriptor);
    int error = errno;
    if (result == 0 && !verdict.swallowed) {
        pthread_mutex_lock(&watched.lock);
        uint32_t kind = object != 0 ? SYNC_ENDED : DIRECTORY_SYNCED;
        append_record((struct record){.kind = kind, .object = object, .length = (int64_t)number},
                      name, NULL);
        pthread_mutex_unlock(&watched.lock);
    }
    after(&verdict);
    errno = error;
    return result;
}

EXPORT int fsync(int descriptor) {
    return synchronise(descriptor, "fsync", REAL(fsync));
}
EXPORT int fdatasync(int descriptor) {
    return synchronise(descriptor, "fdatasync", REAL(fdatasync));
}

/* -- mapping --------------------------------------------------------------------------------- */

static void *map(void *address, size_t length, int protection, int flags, int descriptor,
                 off64_t offset) {
    struct open_file *file = descriptor >= 0 ? file_of(descriptor) : NULL;
    if (file == NULL) {
        return REAL(mmap64)(address, length, protection, flags, descriptor, offset);
    }
    struct verdict verdict = meet(file->name, "mmap", false);
    if (verdict.error) {
        errno = verdict.error;
        return MAP_FAILED;
    }
    void *made = REAL(mmap64)(address, length, protection, flags, descriptor, offset);
    if (made == MAP_FAILED || !(protection & PROT_WRITE) || !(flags & MAP_SHARED)) {
        return made;
    }
    pthread_mutex_lock(&watched.lock);
    for (size_t i = 0; i < MAPPING_LIMIT; i++) {
        struct mapping *free_place = &watched.mappings[i];
        if (free_place->address != NULL) {
            continue;
        }
        *free_place = (struct mapping){made, length, file->object, offset, malloc(length)};
        if (free_place->former == NULL) {
            abort();
        }
        memcpy(free_place->former, made, length);
        pthread_mutex_unlock(&watched.lock);
        return made;
    }
    abort();
}

EXPORT void *mmap(void *address, size_t length, int protection, int flags, int descriptor,
                  off_t offset) {
    return map(address, length, protection, flags, descriptor, offset);
}

EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int descriptor,
                    off64_t offset) {
    return map(address, length, protection, flags, descriptor, offset);
}

/* The mapping that an address belongs to, or NULL. The lock is held. */
static struct mapping *mapping_at(const char *address) {
    for (size_t i = 0; i < MAPPING_LIMIT; i++) {
        struct mapping *each = &watched.mappings[i];
        if (each->address != NULL && address >= each->address &&
            address < each->address + each->length) {
            return each;
        }
    }
    return NULL;
}

EXPORT int munmap(void *address, size_t length) {
    if (is_watching()) {
        pthread_mutex_lock(&watched.lock);
        struct mapping *mapping = mapping_at(address);
        if (mapping != NULL) {
            record_mappings();
            free(mapping->former);
            mapping->address = NULL;
        }
        pthread_mutex_unlock(&watched.lock);
    }
    return REAL(munmap)(address, length);
}

EXPORT int msync(void *address, size_t length, int flags) {
    if (!is_watching()) {
        return REAL(msync)(address, length, flags);
    }
    pthread_mutex_lock(&watched.lock);
    struct mapping *mapping = mapping_at(address);
    uint64_t object = mapping == NULL ? 0 : mapping->object;
    int64_t offset =
        mapping == NULL ? 0 : mapping->offset + ((const char *)address - mapping->address);
    char name[NAME_BYTES] = "";
    for (size_t i = 0; i < FILE_LIMIT && object != 0 && name[0] == 0; i++) {
        if (watched.files[i].name[0] && watched.files[i].object == object) {
            copy_name(name, watched.files[i].name);
        }
    }
    pthread_mutex_unlock(&watched.lock);
    if (object == 0 || name[0] == 0) {
        return REAL(msync)(address, length, flags);
    }
    struct verdict verdict = meet(name, "msync", true);
    if (verdict.error) {
        return refused(verdict.error);
    }
    pthread_mutex_lock(&watched.lock);
    record_mappings();
    uint64_t number = ++watched.last_sync;
    struct record record = {.kind = SYNC_BEGAN,
                            .object = object,
                            .offset = offset,
                            .length = (int64_t)number,
                            .flags = (uint32_t)length};
    append_record(record, "", NULL);
    pthread_mutex_unlock(&watched.lock);
    int result = REAL(msync)(address, length, flags);
    int error = errno;
    if (result == 0) {
        pthread_mutex_lock(&watched.lock);
        record.kind = SYNC_ENDED;
        append_record(record, "", NULL);
        pthread_mutex_unlock(&watched.lock);
    }
    after(&verdict);
    errno = error;
    return result;
}

/* -- names ----------------------------------------------------------------------------------- */

/* One call that changes names: its point, and what it leaves in the record. */
static int change_names(const char *call, uint32_t kind, int directory, const char *path,
                        const char *other, mode_t mode, int flags) {
    char whole[PATH_MAX], new_name[PATH_MAX] = "";
    const char *name = NULL;
    if (is_watching() && absolute(directory, path, whole)) {
        name = file_name(whole);
    }
    if (other != NULL && !absolute(AT_FDCWD, other, new_name)) {
        return refused(ENAMETOOLONG);
    }
    struct verdict verdict = {0};
    if (name != NULL && faccessat(AT_FDCWD, whole, F_OK, AT_SYMLINK_NOFOLLOW) != 0 &&
        kind != DIRECTORY_MADE) {
        name = NULL; /* it will be ENOENT, and change nothing */
    }
    if (name != NULL) {
        verdict = meet(name, call, true);
    }
    if (verdict.error) {
        return refused(verdict.error);
    }
    if (name != NULL) {
        pthread_mutex_lock(&watched.lock);
    }
    int result = 0;
    if (kind == RENAMED) {
        result = REAL(rename)(path, other);
    } else if (kind == DIRECTORY_MADE) {
        result = REAL(mkdirat)(directory, path, mode);
    } else {
        result = REAL(unlinkat)(directory, path, flags);
    }
    int error = errno;
    if (name == NULL) {
        return result;
    }
    if (result == 0) {
        const char *to = kind == RENAMED ? relative(new_name) : "";
        append_record((struct record){.kind = kind, .data_bytes = strlen(to)}, relative(whole), to);
    }
    pthread_mutex_unlock(&watched.lock);
    after(&verdict);
    errno = error;
    return result;
}

EXPORT int rename(const char *path, const char *other) {
    return change_names("rename", RENAMED, AT_FDCWD, path, other, 0, 0);
}

EXPORT int unlink(const char *path) {
    return change_names("unlink", UNLINKED, AT_FDCWD, path, NULL, 0, 0);
}

EXPORT int unlinkat(int directory, const char *path, int flags) {
    bool is_directory = (flags & AT_REMOVEDIR) != 0;
    return change_names(is_directory ? "rmdir" : "unlink",
                        is_directory ? DIRECTORY_REMOVED : UNLINKED, directory, path, NULL, 0,
                        flags);
}

EXPORT int rmdir(const char *path) {
    return change_names("rmdir", DIRECTORY_REMOVED, AT_FDCWD, path, NULL, 0, AT_REMOVEDIR);
}

EXPORT int mkdir(const char *path, mode_t mode) {
    return change_names("mkdir", DIRECTORY_MADE, AT_FDCWD, path, NULL, mode, 0);
}

EXPORT int mkdirat(int directory, const char *path, mode_t mode) {
    return change_names("mkdir", DIRECTORY_MADE, directory, path, NULL, mode, 0);
}

/* -- reading --------------------------------------------------------------------------------- */

EXPORT ssize_t pread(int descriptor, void *data, size_t length, off_t offset) {
    struct open_file *file = file_of(descriptor);
    if (file == NULL) {
        return REAL(pread)(descriptor, data, length, offset);
    }
    struct verdict verdict = meet(file->name, "pread", false);
    if (verdict.error) {
        return refused(verdict.error);
    }
    return REAL(pread)(descriptor, data, verdict.is_short ? (length + 1) / 2 : length, offset);
}

EXPORT ssize_t pread64(int descriptor, void *data, size_t length, off64_t offset) {
    return pread(descriptor, data, length, offset);
}
