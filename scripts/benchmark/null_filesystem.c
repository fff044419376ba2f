/* The least that a file system in C costs: libfuse's low-level interface, answered by as many threads
 * as libfuse starts, files in memory.
 *
 *     null_filesystem MOUNTPOINT     serves in the foreground until unmounted
 *
 * One flat directory. Asks for the same connection as a difffs mount does, and does nothing with the
 * bytes but keep them; no lock is taken to read or write. Built by scripts/benchmark/mounts.py. */
#define FUSE_USE_VERSION 312
#define _GNU_SOURCE

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* Address space of a file; it takes memory as far as it is written. */
#define MAXIMUM_FILE (64ull << 30)
#define MAXIMUM_FILES (1u << 20)
#define MAXIMUM_WRITE (1u << 20)
#define MAXIMUM_BACKGROUND 64
#define NAME_SECONDS 3600.0
#define ATTRIBUTE_SECONDS 1.0
#define PAGE 4096ull

struct file {
    char *name;     /* NULL once it is unlinked */
    char *bytes;    /* MAXIMUM_FILE of address space */
    unsigned opens; /* under `names`, as the two above */
    _Atomic uint64_t size;
};

static pthread_mutex_t names = PTHREAD_MUTEX_INITIALIZER;
static struct file *files[MAXIMUM_FILES]; /* by inode number less 2; never moved */
static unsigned file_count;
static struct timespec started;

static struct file *file_of(fuse_ino_t inode)
{
    return files[inode - 2];
}

static fuse_ino_t find(const char *name) /* 0: none. Under `names`. */
{
    for (unsigned i = file_count; i-- > 0;)
        if (files[i]->name && strcmp(files[i]->name, name) == 0)
            return i + 2;
    return 0;
}

static void drop_bytes_of_nobody(struct file *file) /* under `names` */
{
    if (file->name || file->opens || !file->bytes)
        return;
    munmap(file->bytes, MAXIMUM_FILE);
    file->bytes = NULL;
}

static struct stat attributes(fuse_ino_t inode)
{
    struct stat found = {.st_ino = inode, .st_nlink = 1, .st_blksize = PAGE};
    found.st_atim = found.st_mtim = found.st_ctim = started;
    found.st_mode = inode == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
    if (inode != FUSE_ROOT_ID) {
        found.st_size = (off_t)file_of(inode)->size;
        found.st_blocks = found.st_size / 512;
    }
    return found;
}

static struct fuse_entry_param entry(fuse_ino_t inode)
{
    struct fuse_entry_param found = {
        .ino = inode, .entry_timeout = NAME_SECONDS, .attr_timeout = ATTRIBUTE_SECONDS};
    if (inode)
        found.attr = attributes(inode);
    return found;
}

static void initialize(void *data, struct fuse_conn_info *connection)
{
    (void)data;
    connection->max_write = MAXIMUM_WRITE;
    connection->max_background = MAXIMUM_BACKGROUND;
    connection->want |= connection->capable & FUSE_CAP_WRITEBACK_CACHE;
    connection->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                    FUSE_CAP_SPLICE_MOVE | FUSE_CAP_AUTO_INVAL_DATA);
}

static void lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    (void)parent;
    pthread_mutex_lock(&names);
    struct fuse_entry_param found = entry(find(name)); /* without an inode: remembered as absent */
    pthread_mutex_unlock(&names);
    fuse_reply_entry(request, &found);
}

static void getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    (void)info;
    struct stat found = attributes(inode);
    fuse_reply_attr(request, &found, ATTRIBUTE_SECONDS);
}

static void cut(struct file *file, uint64_t size)
{
    uint64_t old = file->size;
    if (size < old) { /* what is read behind a later growth is zeros */
        uint64_t whole = (size + PAGE - 1) / PAGE * PAGE;
        uint64_t end = (old + PAGE - 1) / PAGE * PAGE;
        memset(file->bytes + size, 0, whole - size);
        if (end > whole)
            madvise(file->bytes + whole, end - whole, MADV_DONTNEED);
    }
    file->size = size;
}

static void setattr(fuse_req_t request, fuse_ino_t inode, struct stat *wanted, int which,
                    struct fuse_file_info *info)
{
    (void)info; /* modes, owners and times are not kept */
    if (which & FUSE_SET_ATTR_SIZE) {
        if ((uint64_t)wanted->st_size > MAXIMUM_FILE) {
            fuse_reply_err(request, EFBIG);
            return;
        }
        /* What waits for the same pages waits in the kernel. */
        cut(file_of(inode), (uint64_t)wanted->st_size);
    }
    struct stat found = attributes(inode);
    fuse_reply_attr(request, &found, ATTRIBUTE_SECONDS);
}

static int add(const char *name, fuse_ino_t *inode) /* under `names`; an error number or 0 */
{
    if (file_count == MAXIMUM_FILES)
        return ENOSPC;
    struct file *file = calloc(1, sizeof *file);
    char *copy = strdup(name);
    void *bytes = mmap(NULL, MAXIMUM_FILE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!file || !copy || bytes == MAP_FAILED) {
        free(file);
        free(copy);
        if (bytes != MAP_FAILED)
            munmap(bytes, MAXIMUM_FILE);
        return ENOMEM;
    }
    file->name = copy;
    file->bytes = bytes;
    file->opens = 1;
    files[file_count] = file;
    *inode = ++file_count + 1;
    return 0;
}

static void create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
                   struct fuse_file_info *info)
{
    (void)parent, (void)mode;
    fuse_ino_t inode = 0;
    pthread_mutex_lock(&names);
    int problem = find(name) ? EEXIST : add(name, &inode);
    pthread_mutex_unlock(&names);
    if (problem) {
        fuse_reply_err(request, problem);
        return;
    }
    struct fuse_entry_param made = entry(inode);
    info->keep_cache = 1;
    fuse_reply_create(request, &made, info);
}

static void open_file(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    pthread_mutex_lock(&names);
    file_of(inode)->opens++;
    pthread_mutex_unlock(&names);
    info->keep_cache = 1;
    fuse_reply_open(request, info);
}

static void release(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    (void)info;
    pthread_mutex_lock(&names);
    file_of(inode)->opens--;
    drop_bytes_of_nobody(file_of(inode));
    pthread_mutex_unlock(&names);
    fuse_reply_err(request, 0);
}

static void unlink_file(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    (void)parent;
    pthread_mutex_lock(&names);
    fuse_ino_t inode = find(name);
    if (inode) {
        struct file *file = file_of(inode);
        free(file->name);
        file->name = NULL;
        drop_bytes_of_nobody(file);
    }
    pthread_mutex_unlock(&names);
    fuse_reply_err(request, inode ? 0 : ENOENT);
}

static void read_file(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
                      struct fuse_file_info *info)
{
    (void)info;
    const struct file *file = file_of(inode);
    uint64_t end = file->size, from = (uint64_t)offset;
    if (from >= end)
        size = 0;
    else if (size > end - from)
        size = end - from;
    fuse_reply_buf(request, file->bytes + offset, size);
}

static void write_file(fuse_req_t request, fuse_ino_t inode, const char *data, size_t size,
                       off_t offset, struct fuse_file_info *info)
{
    (void)info;
    struct file *file = file_of(inode);
    uint64_t end = (uint64_t)offset + size;
    if (end > MAXIMUM_FILE) {
        fuse_reply_err(request, EFBIG);
        return;
    }
    memcpy(file->bytes + offset, data, size);
    uint64_t old = file->size;
    while (old < end && !atomic_compare_exchange_weak(&file->size, &old, end)) {
    }
    fuse_reply_write(request, size);
}

static void flush(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    (void)inode, (void)info;
    fuse_reply_err(request, 0);
}

static void synchronize(fuse_req_t request, fuse_ino_t inode, int data, struct fuse_file_info *info)
{
    (void)inode, (void)data, (void)info;
    fuse_reply_err(request, 0);
}

static void read_directory(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
                           struct fuse_file_info *info)
{
    (void)inode, (void)info;
    char *entries = malloc(size);
    size_t used = 0;
    if (!entries) {
        fuse_reply_err(request, ENOMEM);
        return;
    }
    pthread_mutex_lock(&names);
    for (uint64_t at = (uint64_t)offset; at < file_count + 2ull; at++) {
        const char *name = at == 0 ? "." : at == 1 ? ".." : files[at - 2]->name;
        if (!name)
            continue;
        struct stat found = attributes(at < 2 ? FUSE_ROOT_ID : at);
        size_t length =
            fuse_add_direntry(request, entries + used, size - used, name, &found, (off_t)at + 1);
        if (length > size - used)
            break;
        used += length;
    }
    pthread_mutex_unlock(&names);
    fuse_reply_buf(request, entries, used);
    free(entries);
}

static const struct fuse_lowlevel_ops operations = {
    .init = initialize,
    .lookup = lookup,
    .getattr = getattr,
    .setattr = setattr,
    .create = create,
    .open = open_file,
    .release = release,
    .unlink = unlink_file,
    .read = read_file,
    .write = write_file,
    .flush = flush,
    .fsync = synchronize,
    .fsyncdir = synchronize,
    .readdir = read_directory,
};

int main(int count, char **arguments)
{
    if (count != 2) {
        fprintf(stderr, "usage: %s MOUNTPOINT\n", arguments[0]);
        return 2;
    }
    clock_gettime(CLOCK_REALTIME, &started);
    char *words[] = {arguments[0], "-odefault_permissions,fsname=null,subtype=null"};
    struct fuse_args options = FUSE_ARGS_INIT(2, words);
    struct fuse_session *session = fuse_session_new(&options, &operations, sizeof operations, NULL);
    if (!session)
        return 1;
    int status = 1;
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    if (fuse_set_signal_handlers(session) == 0 && fuse_session_mount(session, arguments[1]) == 0) {
        status = fuse_session_loop_mt(session, config) ? 1 : 0;
        fuse_session_unmount(session);
    }
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    fuse_loop_cfg_destroy(config);
    fuse_opt_free_args(&options);
    return status;
}
