/* Has a program's one large piece of memory be a file that is mapped and shared: the one named by
 * DIFFFS_MAPPED_FILE, which is as large as is asked for from then on. Preloaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGE ((size_t)16 << 20)

static void *mapped;
static size_t mapped_bytes;

static void *map_file(size_t bytes)
{
	const char *name = getenv("DIFFFS_MAPPED_FILE");
	int file = name ? open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	void *memory;

	if (file < 0 || ftruncate(file, (off_t)bytes) != 0)
		abort(); /* never go on with other memory: the test would test nothing */
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (memory == MAP_FAILED || close(file) != 0)
		abort();
	mapped = memory;
	mapped_bytes = bytes;
	return memory;
}

void *memalign(size_t alignment, size_t bytes)
{
	void *memory = NULL;

	if (bytes >= LARGE && !mapped)
		return map_file(bytes);
	if (posix_memalign(&memory, alignment, bytes) != 0) {
		errno = ENOMEM;
		return NULL;
	}
	return memory;
}

void free(void *memory)
{
	static void (*next)(void *);

	if (memory && memory == mapped) {
		munmap(mapped, mapped_bytes);
		mapped = NULL;
		return;
	}
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "free");
	next(memory);
}
