/* Whether LMDB can be let loose on a file: it follows what its pages say without a look, so that a
 * damaged one ends the process, or hides keys. Layout of LMDB 0.9 on 64 bits, pages of 4,096
 * bytes (docs: struct MDB_page, MDB_node, MDB_db and MDB_meta in its mdb.c). */
#ifndef DIFFFS_LMDB_CHECK_H
#define DIFFFS_LMDB_CHECK_H

#include <stdint.h>

struct lmdb_damage {
    uint64_t page;    /* where it is */
    const char *what; /* a few words; NULL: there is none */
    int error;        /* errno when reading failed or memory lacks, else 0 */
};

/* Looks at the pages of keys of the newer transaction: every one is named once, is what it says,
 * and has all its nodes inside; keys ascend; values lie inside of the file; each tree has as many
 * pages and keys as it counts; and no page that is free is in use. Values are not read, but for the
 * lists of free pages. O(pages of keys), with a bit of memory for each page of the file. */
void lmdb_check(int file, struct lmdb_damage *damage);

#endif
