/* Files that are mapped and may be cut by others: where a page of one is no longer there, a page of
 * zeros takes its place, instead of SIGBUS ending the process. */
#ifndef DIFFFS_MAPPED_FILES_H
#define DIFFFS_MAPPED_FILES_H

#include <stddef.h>
#include <stdint.h>

#define MAPPED_FILES 64u

/* Guards [start, start + length), a mapping that stays until mapped_file_release. Returns its
 * number, or -1 when there are too many. Any thread. */
int mapped_file_guard(void *start, size_t length, int writable);
void mapped_file_release(int number);

/* Pages of the mapping that were not there. */
uint32_t mapped_file_missing(int number);

#endif
