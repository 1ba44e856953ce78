/* Reading op lists: see message.h. */
#ifndef WINDLASS_OPLIST_H
#define WINDLASS_OPLIST_H
#include <stddef.h>

#include "message.h"

/* Where the list is: `data` holds `size` bytes that oplist_check has found good. */
struct oplist {
    const char *data;
    size_t size;
};

/* Check every bound of a list. Returns 0, or -1 with errno EBADMSG. */
int oplist_check(const void *data, size_t size);

/* Read a list from a file and check it. Returns 0, or -1 with errno; oplist_free gives the memory back. */
int oplist_read(int fd, struct oplist *list);
void oplist_free(struct oplist *list);

/* Walk a checked list: `for (op = oplist_first(l); op; op = oplist_next(l, op))`. */
const struct op *oplist_first(const struct oplist *list);
const struct op *oplist_next(const struct oplist *list, const struct op *op);

/* The op's n-th string; the check has made sure that those which the op needs are there. */
const char *op_string(const struct op *op, unsigned n);

#endif
