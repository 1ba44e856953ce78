/* The op list's parser: nothing is interpreted before the whole list has been found good. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "oplist.h"
#include "sys.h"

enum { RAW_GROUPS = -1, RAW_FILTER = -2 }; /* in place of a number of strings: what the raw payload is */

/* What each op carries: least and most strings, and which of its arguments names a slot. */
static const struct shape {
    signed char least;
    unsigned short most;
    char slot, may_be_none;
} shapes[] = {
    [OP_RUNDIR] = {1, 1, 0, 0},
    [OP_LOG] = {1, 1, 0, 0},
    [OP_STDIO] = {0, 0, 0, 0},
    [OP_OVERLAY] = {3, 512, 'a', 0},
    [OP_OPEN_TREE] = {1, 1, 'a', 0},
    [OP_OPEN_CGROUP] = {1, 1, 'a', 0},
    [OP_OOM_V1] = {1, 1, 0, 0},
    [OP_OOM_V2] = {1, 1, 0, 0},
    [OP_CLONE] = {0, 0, 'b', 1},
    [OP_OPEN_SHM] = {1, 1, 'a', 0},
    [OP_USERNS] = {1, 1, 0, 0},
    [OP_OPEN_NS] = {1, 1, 'a', 0},
    [OP_JOIN] = {0, 0, 'b', 1},
    [OP_WRITE] = {2, 2, 0, 0},
    [OP_SETNS] = {1, 1, 0, 0},
    [OP_UNSHARE] = {0, 0, 0, 0},
    [OP_PRIVATE] = {0, 0, 0, 0},
    [OP_ROOT] = {1, 1, 'a', 0},
    [OP_MOUNT] = {4, 4, 0, 0},
    [OP_BIND] = {1, 2, 'a', 0},
    [OP_MKDIR] = {1, 1, 0, 0},
    [OP_MKNOD] = {1, 1, 0, 0},
    [OP_SYMLINK] = {2, 2, 0, 0},
    [OP_TOUCH] = {1, 1, 0, 0},
    [OP_DEVICE] = {2, 2, 0, 0},
    [OP_MASK] = {1, 1, 0, 0},
    [OP_READONLY] = {1, 1, 0, 0},
    [OP_READONLY_ROOT] = {0, 0, 0, 0},
    [OP_PIVOT] = {0, 0, 0, 0},
    [OP_SYSCTL] = {2, 2, 0, 0},
    [OP_CONSOLE] = {0, 0, 0, 0},
    [OP_HOSTNAME] = {1, 1, 0, 0},
    [OP_DOMAINNAME] = {1, 1, 0, 0},
    [OP_LOOPBACK] = {0, 0, 0, 0},
    [OP_RLIMIT] = {0, 0, 0, 0},
    [OP_KEYRING] = {1, 1, 0, 0},
    [OP_UMASK] = {0, 0, 0, 0},
    [OP_OOM_SCORE] = {1, 1, 0, 0},
    [OP_BOUNDING] = {0, 0, 0, 0},
    [OP_GROUPS] = {RAW_GROUPS, 0, 0, 0},
    [OP_IDS] = {0, 0, 0, 0},
    [OP_NO_NEW_PRIVS] = {0, 0, 0, 0},
    [OP_SECCOMP] = {RAW_FILTER, 0, 0, 0},
    [OP_CAPS] = {0, 0, 0, 0},
    [OP_CHDIR] = {1, 1, 0, 0},
    [OP_EXEC] = {1, 65535, 0, 0},
};

static int bad(void)
{
    errno = EBADMSG;
    return -1;
}

static int known(unsigned code)
{
    return (code >= OP_RUNDIR && code <= OP_OPEN_NS) || code == OP_JOIN || (code >= OP_WRITE && code <= OP_EXEC);
}

/* Exactly nstr strings, and after them less than 8 bytes of zero padding. */
static int strings_are_good(const struct op *op)
{
    const char *p = op->payload, *end = p + op->len;
    for (unsigned i = 0; i < op->nstr; i++) {
        const char *nul = memchr(p, 0, end - p);
        if (!nul)
            return 0;
        p = nul + 1;
    }
    if (end - p >= 8)
        return 0;
    while (p < end)
        if (*p++)
            return 0;
    return 1;
}

static int payload_is_good(const struct op *op, const struct shape *shape)
{
    if (shape->least == RAW_GROUPS)
        return !op->nstr && op->a <= op->len / 4 && op->len - op->a * 4 < 8;
    if (shape->least == RAW_FILTER) /* struct sock_filter is 8 bytes */
        return !op->nstr && op->b && op->b <= 4096 && op->len == op->b * 8;
    return op->nstr >= shape->least && op->nstr <= shape->most && strings_are_good(op);
}

static int op_is_good(const struct op *op)
{
    if (!known(op->code))
        return 0;
    const struct shape *shape = &shapes[op->code];
    uint64_t slot = shape->slot == 'a' ? op->a : op->b;
    if (shape->slot && slot >= SLOTS && !(shape->may_be_none && slot == NONE))
        return 0;
    if (op->code == OP_EXEC && (op->a < 1 || op->a > op->nstr))
        return 0;
    if (op->code == OP_SETNS && op->b > SLOTS)
        return 0;
    return payload_is_good(op, shape);
}

int oplist_check(const void *data, size_t size)
{
    struct oplist_header head;
    if (size < sizeof head || size > OPLIST_MAX)
        return bad();
    memcpy(&head, data, sizeof head);
    if (head.magic != OPLIST_MAGIC || head.version != OPLIST_VERSION || head.total != size)
        return bad();
    const char *p = (const char *)data + sizeof head;
    size_t left = size - sizeof head;
    for (uint32_t i = 0; i < head.nops; i++) {
        const struct op *op = (const struct op *)p;
        if (left < sizeof *op || op->len % 8 || op->len > left - sizeof *op || !op_is_good(op))
            return bad();
        p += sizeof *op + op->len;
        left -= sizeof *op + op->len;
    }
    return left ? bad() : 0;
}

int oplist_read(int fd, struct oplist *list)
{
    struct stat st;
    syscall_name = "fstat";
    if (fstat(fd, &st))
        return -1;
    syscall_name = "oplist";
    if (st.st_size < (off_t)sizeof(struct oplist_header) || st.st_size > OPLIST_MAX)
        return bad();
    /* A private copy: nobody can change it after the check, sealed or not. */
    char *copy = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return -1;
    *list = (struct oplist){copy, st.st_size};
    if (pread(fd, copy, st.st_size, 0) == st.st_size && !oplist_check(copy, st.st_size))
        return 0;
    oplist_free(list);
    return bad();
}

void oplist_free(struct oplist *list)
{
    if (list->data)
        munmap((void *)list->data, list->size);
    list->data = NULL;
}

const struct op *oplist_first(const struct oplist *list)
{
    const char *p = list->data + sizeof(struct oplist_header);
    return p < list->data + list->size ? (const struct op *)p : NULL;
}

const struct op *oplist_next(const struct oplist *list, const struct op *op)
{
    const char *p = op->payload + op->len;
    return p < list->data + list->size ? (const struct op *)p : NULL;
}

const char *op_string(const struct op *op, unsigned n)
{
    const char *s = op->payload;
    while (n--)
        s += strlen(s) + 1;
    return s;
}
