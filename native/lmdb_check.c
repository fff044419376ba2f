#include "lmdb_check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LMDB_PAGE 4096u
#define PAGE_HEAD 16u
#define NODE_HEAD 8u
#define KEY_LIMIT 511u
#define DEEPEST 32u
#define NO_PAGE UINT64_MAX

enum { BRANCH = 1, LEAF = 2, OVERFLOWS = 4, META = 8 };
enum { NODE_BIG = 1, NODE_DATABASE = 2 };
enum { INTEGER_KEYS = 8 };

struct page_head {
    uint64_t number;
    uint16_t padding;
    uint16_t kind;
    uint16_t lower; /* end of the nodes' offsets */
    uint16_t upper; /* begin of the nodes */
};

struct node_head {
    uint16_t low; /* of the value's length, or of the child's number */
    uint16_t high;
    uint16_t kind; /* of a branch: the child's highest bits */
    uint16_t key_length;
};

struct tree {
    uint32_t padding;
    uint16_t flags;
    uint16_t depth;
    uint64_t branches;
    uint64_t leaves;
    uint64_t overflows;
    uint64_t entries;
    uint64_t root;
};

struct meta {
    uint32_t magic;
    uint32_t version;
    uint64_t address;
    uint64_t map_bytes;
    struct tree trees[2]; /* of free pages, of the databases' names */
    uint64_t last_page;
    uint64_t transaction;
};

#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1u

struct key {
    uint8_t bytes[KEY_LIMIT];
    uint32_t length;
};

/* A walk through one tree. */
struct walk {
    int is_free_list;
    int is_main;
    uint64_t branches;
    uint64_t leaves;
    uint64_t overflows;
    uint64_t entries;
    struct key last;  /* of the leaves so far */
    struct key floor; /* that the next leaf's keys may not be below */
    int has_last;
};

struct check {
    int file;
    uint64_t pages; /* that the newer transaction knows of; the file has them */
    uint64_t *used; /* a bit a page */
    struct lmdb_damage *damage;
};

static int damaged(struct check *check, uint64_t page, const char *what) {
    check->damage->page = page;
    check->damage->what = what;
    return -1;
}

static int read_bytes(struct check *check, uint64_t page, void *out, size_t length) {
    size_t done = 0;
    while (done < length) {
        ssize_t got = pread(check->file, (uint8_t *)out + done, length - done,
                            (off_t)(page * LMDB_PAGE + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            check->damage->error = got < 0 ? errno : 0;
            return damaged(check, page, got < 0 ? "cannot be read" : "is not in the file");
        }
        done += (size_t)got;
    }
    return 0;
}

/* Notes that pages are in use, or free; each may be so once. */
static int take(struct check *check, uint64_t page, uint64_t count) {
    if (count == 0 || page < 2 || count > check->pages || page > check->pages - count) {
        return damaged(check, page, "is named, and is not in the file");
    }
    for (uint64_t at = page; at < page + count; at++) {
        uint64_t bit = UINT64_C(1) << at % 64u;
        if (check->used[at / 64u] & bit) {
            return damaged(check, at, "is named twice, or in use and free");
        }
        check->used[at / 64u] |= bit;
    }
    return 0;
}

static int compare(const struct walk *walk, const struct key *one, const uint8_t *other,
                   uint32_t length) {
    if (walk->is_free_list && one->length == 8 && length == 8) {
        uint64_t left, right;
        memcpy(&left, one->bytes, 8);
        memcpy(&right, other, 8);
        return left < right ? -1 : left > right;
    }
    uint32_t both = one->length < length ? one->length : length;
    int order = both ? memcmp(one->bytes, other, both) : 0;
    return order ? order : (one->length > length) - (one->length < length);
}

static void keep(struct key *key, const uint8_t *bytes, uint32_t length) {
    memcpy(key->bytes, bytes, length);
    key->length = length;
}

static struct node_head node_at(const uint8_t *page, uint32_t at) {
    struct node_head node;
    memcpy(&node, page + at, sizeof node);
    return node;
}

/* The offset of a node whose head and key lie inside of the page, or 0. */
static uint32_t sound_node(const uint8_t *page, const struct page_head *head, uint32_t index) {
    uint16_t at;
    memcpy(&at, page + PAGE_HEAD + 2u * index, sizeof at);
    if (at < head->upper || at > LMDB_PAGE - NODE_HEAD || at % 2) {
        return 0;
    }
    struct node_head node = node_at(page, at);
    return node.key_length <= KEY_LIMIT && at + NODE_HEAD + node.key_length <= LMDB_PAGE ? at : 0;
}

static int walk_tree(struct check *check, const struct tree *tree, struct walk *walk);

/* A list of free pages: their count and their numbers, descending. */
static int check_free_pages(struct check *check, uint64_t page, const uint8_t *list,
                            uint64_t length) {
    uint64_t count, former = UINT64_MAX;
    if (length < 8) {
        return damaged(check, page, "has a list of free pages that is cut");
    }
    memcpy(&count, list, 8);
    if (count > length / 8u - 1u) {
        return damaged(check, page, "has a list of free pages that is cut");
    }
    for (uint64_t at = 1; at <= count; at++) {
        uint64_t number;
        memcpy(&number, list + 8u * at, 8);
        if (number >= former) {
            return damaged(check, page, "has a list of free pages out of order");
        }
        former = number;
        if (take(check, number, 1)) {
            return -1;
        }
    }
    return 0;
}

static int check_value(struct check *check, struct walk *walk, const uint8_t *page,
                       uint64_t number, uint32_t at) {
    struct node_head node = node_at(page, at);
    const uint64_t length = (uint64_t)node.low | (uint64_t)node.high << 16;
    const uint32_t data = at + NODE_HEAD + node.key_length;
    const int big = node.kind & NODE_BIG;
    const int database = node.kind & NODE_DATABASE;
    if ((node.kind & ~(NODE_BIG | NODE_DATABASE)) || (database && (big || !walk->is_main))) {
        return damaged(check, number, "has a node of an unknown kind");
    }
    if (data + (big ? 8u : length) > LMDB_PAGE) {
        return damaged(check, number, "has a value that lies outside of it");
    }
    if (big) {
        uint64_t first;
        const uint64_t pages = (PAGE_HEAD + length + LMDB_PAGE - 1u) / LMDB_PAGE;
        memcpy(&first, page + data, 8);
        if (take(check, first, pages)) {
            return -1;
        }
        walk->overflows += pages;
        if (!walk->is_free_list) {
            return 0;
        }
        uint8_t *list = malloc(pages * LMDB_PAGE);
        if (list == NULL) {
            check->damage->error = ENOMEM;
            return damaged(check, first, "does not fit in memory");
        }
        int result = read_bytes(check, first, list, pages * LMDB_PAGE);
        if (result == 0) {
            result = check_free_pages(check, number, list + PAGE_HEAD, length);
        }
        free(list);
        return result;
    }
    if (walk->is_free_list) {
        return check_free_pages(check, number, page + data, length);
    }
    if (database) {
        struct tree tree;
        struct walk inner = {0};
        if (length != sizeof tree) {
            return damaged(check, number, "has a database of another size");
        }
        memcpy(&tree, page + data, sizeof tree);
        if (tree.padding || tree.flags) {
            return damaged(check, number, "has a database of an unknown kind");
        }
        return walk_tree(check, &tree, &inner);
    }
    return 0;
}

static int check_leaf(struct check *check, struct walk *walk, const uint8_t *page,
                      const struct page_head *head, uint32_t count) {
    for (uint32_t index = 0; index < count; index++) {
        const uint32_t at = sound_node(page, head, index);
        if (at == 0) {
            return damaged(check, head->number, "has a node that lies outside of it");
        }
        const uint32_t length = node_at(page, at).key_length;
        const uint8_t *bytes = page + at + NODE_HEAD;
        if (length == 0 || (walk->is_free_list && length != 8)) {
            return damaged(check, head->number, "has a key of another length");
        }
        if ((walk->has_last && compare(walk, &walk->last, bytes, length) >= 0) ||
            compare(walk, &walk->floor, bytes, length) > 0) {
            return damaged(check, head->number, "has keys out of order");
        }
        keep(&walk->last, bytes, length);
        walk->has_last = 1;
        walk->entries++;
        if (check_value(check, walk, page, head->number, at)) {
            return -1;
        }
    }
    walk->leaves++;
    return 0;
}

static int walk_page(struct check *check, struct walk *walk, uint64_t number, uint32_t level) {
    uint8_t page[LMDB_PAGE];
    struct page_head head;
    if (take(check, number, 1) || read_bytes(check, number, page, sizeof page)) {
        return -1;
    }
    memcpy(&head, page, sizeof head);
    if (head.number != number) {
        return damaged(check, number, "says that it is another");
    }
    if (head.kind != (level == 1 ? LEAF : BRANCH) || head.lower < PAGE_HEAD || head.lower % 2 ||
        head.lower > head.upper || head.upper > LMDB_PAGE) {
        return damaged(check, number, "is none of keys");
    }
    const uint32_t count = (head.lower - PAGE_HEAD) / 2u;
    if (count == 0 || (level > 1 && count < 2 && !walk->is_free_list)) {
        return damaged(check, number, "has too few keys");
    }
    if (level == 1) {
        return check_leaf(check, walk, page, &head, count);
    }
    for (uint32_t index = 0; index < count; index++) {
        const uint32_t at = sound_node(page, &head, index);
        if (at == 0) {
            return damaged(check, number, "has a node that lies outside of it");
        }
        const struct node_head node = node_at(page, at);
        if (index > 0) { /* the first one's key counts for nothing */
            const uint8_t *bytes = page + at + NODE_HEAD;
            if (node.key_length == 0 || (walk->is_free_list && node.key_length != 8) ||
                (walk->has_last && compare(walk, &walk->last, bytes, node.key_length) >= 0)) {
                return damaged(check, number, "has keys out of order");
            }
            keep(&walk->floor, bytes, node.key_length);
        }
        const uint64_t child =
            (uint64_t)node.low | (uint64_t)node.high << 16 | (uint64_t)node.kind << 32;
        if (walk_page(check, walk, child, level - 1)) {
            return -1;
        }
    }
    walk->branches++;
    return 0;
}

static int walk_tree(struct check *check, const struct tree *tree, struct walk *walk) {
    if (tree->root == NO_PAGE) {
        if (tree->depth || tree->entries || tree->branches || tree->leaves || tree->overflows) {
            return damaged(check, tree->root, "is the root of a tree that counts some");
        }
        return 0;
    }
    if (tree->depth == 0 || tree->depth > DEEPEST) {
        return damaged(check, tree->root, "is the root of a tree of an impossible depth");
    }
    if (walk_page(check, walk, tree->root, tree->depth)) {
        return -1;
    }
    if (walk->branches != tree->branches || walk->leaves != tree->leaves ||
        walk->overflows != tree->overflows || walk->entries != tree->entries) {
        return damaged(check, tree->root, "is the root of a tree that counts another number");
    }
    return 0;
}

/* The newer of the two meta pages, which both must be some. */
static int read_metas(struct check *check, struct meta *newest) {
    for (uint64_t number = 0; number < 2; number++) {
        uint8_t page[PAGE_HEAD + sizeof(struct meta)];
        struct page_head head;
        struct meta meta;
        if (read_bytes(check, number, page, sizeof page)) {
            return -1;
        }
        memcpy(&head, page, sizeof head);
        memcpy(&meta, page + PAGE_HEAD, sizeof meta);
        if (head.kind != META || head.number != number || meta.magic != META_MAGIC ||
            meta.version != META_VERSION || meta.trees[0].padding != LMDB_PAGE ||
            meta.trees[0].flags != INTEGER_KEYS || meta.trees[1].padding || meta.trees[1].flags) {
            return damaged(check, number, "is no meta page");
        }
        if (number == 0 || meta.transaction > newest->transaction) {
            *newest = meta;
        }
    }
    return 0;
}

void lmdb_check(int file, struct lmdb_damage *damage) {
    struct check check = {.file = file, .damage = damage};
    struct walk free_list = {.is_free_list = 1}, main_tree = {.is_main = 1};
    struct meta meta;
    struct stat status;
    memset(damage, 0, sizeof *damage);
    if (fstat(file, &status)) {
        damage->error = errno;
        (void)damaged(&check, 0, "cannot be read");
        return;
    }
    if (read_metas(&check, &meta)) {
        return;
    }
    const uint64_t pages = (uint64_t)status.st_size / LMDB_PAGE;
    if (meta.last_page < 1 || meta.last_page >= pages) {
        (void)damaged(&check, meta.last_page, "is the last one, and is not in the file");
        return;
    }
    check.pages = meta.last_page + 1;
    check.used = calloc(check.pages / 64u + 1u, sizeof *check.used);
    if (check.used == NULL) {
        damage->error = ENOMEM;
        (void)damaged(&check, 0, "does not fit in memory");
        return;
    }
    if (walk_tree(&check, &meta.trees[1], &main_tree) == 0) {
        (void)walk_tree(&check, &meta.trees[0], &free_list);
    }
    free(check.used);
}
