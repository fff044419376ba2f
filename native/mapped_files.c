#include "mapped_files.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u

/* `length` is written last and cleared first: the handler, which may run at any moment, looks at
 * those with one only. */
struct guarded {
    atomic_uintptr_t start;
    atomic_size_t length;
    atomic_int writable;
    atomic_uint missing;
};

static struct guarded files[MAPPED_FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction former;
static int is_installed;

/* Only what is safe in a signal's handler: mmap is a system call of its own. */
static void handle(int number, siginfo_t *info, void *context) {
    const int error = errno;
    const uintptr_t at = (uintptr_t)info->si_addr;
    (void)context;
    for (unsigned i = 0; i < MAPPED_FILES && info->si_code > 0; i++) { /* else somebody sent it */
        const size_t length = atomic_load(&files[i].length);
        const uintptr_t start = atomic_load(&files[i].start);
        if (length && at >= start && at - start < length) {
            const int rights = PROT_READ | (atomic_load(&files[i].writable) ? PROT_WRITE : 0);
            void *page = (void *)(at & ~(uintptr_t)(PAGE - 1u));
            if (mmap(page, PAGE, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page) {
                atomic_fetch_add(&files[i].missing, 1u);
                errno = error;
                return;
            }
        }
    }
    sigaction(number, &former, NULL); /* somebody else's: it comes again, and goes there */
    if (info->si_code <= 0) {
        raise(number); /* what was sent does not come again by itself */
    }
    errno = error;
}

static int install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    if (!is_installed && sigaction(SIGBUS, &action, &former)) {
        return -1;
    }
    is_installed = 1;
    return 0;
}

int mapped_file_guard(void *start, size_t length, int writable) {
    int found = -1;
    pthread_mutex_lock(&lock);
    if (install() == 0) {
        for (unsigned i = 0; i < MAPPED_FILES && found < 0; i++) {
            if (atomic_load(&files[i].length) == 0) {
                atomic_store(&files[i].start, (uintptr_t)start);
                atomic_store(&files[i].writable, writable);
                atomic_store(&files[i].missing, 0u);
                atomic_store(&files[i].length, length);
                found = (int)i;
            }
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

void mapped_file_release(int number) {
    if (number >= 0 && (unsigned)number < MAPPED_FILES) {
        atomic_store(&files[number].length, 0);
    }
}

uint32_t mapped_file_missing(int number) {
    return number >= 0 && (unsigned)number < MAPPED_FILES ? atomic_load(&files[number].missing)
                                                          : 0u;
}
