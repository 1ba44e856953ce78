/* The first half of an op list: what the shim opens for the child, and for itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "log.h"
#include "overlay.h"
#include "paths.h"
#include "shim.h"
#include "sys.h"
#include "userns.h"

static int set_slot(uint64_t slot, int fd)
{
    if (fd < 0)
        return -1;
    if (shim.slots[slot] >= 0)
        close(shim.slots[slot]);
    shim.slots[slot] = fd;
    return 0;
}

static int rundir(const struct op *op)
{
    shim.rundir = CALL(openat, AT_FDCWD, op_string(op, 0), O_PATH | O_DIRECTORY | O_CLOEXEC);
    return shim.rundir < 0 ? -1 : control_listen();
}

static int open_log(const struct op *op)
{
    syscall_name = "log";
    return op->a == LOG_JSON ? log_open(op_string(op, 0), op->b, op->c) : 0;
}

static int standard_streams(const struct op *op)
{
    the_init->stdio = op->a;
    the_init->size = op->b;
    the_init->terminal_owner = op->c;
    return 0;
}

int prepare_overlay(const struct op *op)
{
    char place[64];
    const char *lower[op->nstr];
    for (unsigned i = 2; i < op->nstr; i++)
        lower[i - 2] = op_string(op, i);
    snprintf(place, sizeof place, "/proc/self/fd/%d/overlay", shim.rundir);
    struct overlay layers = {op_string(op, 0), op_string(op, 1), lower, op->nstr - 2, op->b};
    int mount = shim.userns < 0 ? overlay_mount(&layers, place) : overlay_mount_mapped(&layers, op->c, shim.userns);
    if (shim.overlay < 0 && mount >= 0) /* the first is the root: its last reference is let go after the end is told */
        shim.overlay = fcntl(mount, F_DUPFD_CLOEXEC, 3);
    return set_slot(op->a, mount);
}

int prepare_tree(const struct op *op)
{
    unsigned recursive = op->b & TREE_RECURSIVE ? AT_RECURSIVE : 0;
    unsigned all = op->b & TREE_TOP ? 0 : recursive;
    bool is_mapped = op->b & TREE_MAPPED && shim.userns >= 0;
    int fd = CALL(open_tree, AT_FDCWD, op_string(op, 0), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive);
    /* The clone of a shared mount would pass mounts on in both directions. */
    uint64_t propagation = op->b & TREE_SHARED ? 0 : op->b & TREE_SLAVE ? MS_SLAVE : MS_PRIVATE;
    if (fd >= 0 && ((op->c && sys_mount_setattr(fd, all, op->c, 0)) ||
                    (propagation && sys_mount_setattr(fd, recursive, 0, propagation)) ||
                    (is_mapped && sys_map_owners(fd, recursive, shim.userns)))) {
        close_keeping_errno(fd);
        return -1;
    }
    return set_slot(op->a, fd);
}

int open_cgroup(const struct op *op)
{
    return set_slot(op->a, CALL(openat, AT_FDCWD, op_string(op, 0), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/* /dev/shm as a process sees it that stands in the root of a mount namespace: nothing else than a tmpfs will do. */
static int clone_shm(void)
{
    struct statfs fs;
    int root = CALL(openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int place = root < 0 ? -1 : path_open(root, "/dev/shm", O_PATH | O_DIRECTORY);
    int copy = place < 0 ? -1 : sys_clone_tree(place, 0);
    const unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    if (copy >= 0 && (fstatfs(place, &fs) || fs.f_type != TMPFS_MAGIC)) {
        close(copy);
        copy = -1;
        errno = ENODEV;
    }
    if (copy >= 0 && sys_mount_setattr(copy, 0, attributes, MS_PRIVATE)) {
        close_keeping_errno(copy);
        copy = -1;
    }
    close_keeping_errno(place);
    close_keeping_errno(root);
    return copy;
}

/* The /dev/shm of another container: a mount can be copied only by who is in its namespace, so we go there and back. */
static int open_shm(const struct op *op)
{
    int own = CALL(openat, AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    int other = own < 0 ? -1 : CALL(openat, AT_FDCWD, op_string(op, 0), O_RDONLY | O_CLOEXEC);
    int copy = other < 0 || CALL(setns, other, CLONE_NEWNS) ? -1 : clone_shm();
    int saved = errno;
    const char *call = syscall_name;
    if (other >= 0 && CALL(setns, own, CLONE_NEWNS))
        return -1; /* astray: the start fails, and with it this process ends */
    errno = saved;
    syscall_name = call;
    close_keeping_errno(other);
    close_keeping_errno(own);
    return set_slot(op->a, copy);
}

static int open_namespace(const struct op *op)
{
    return set_slot(op->a, CALL(openat, AT_FDCWD, op_string(op, 0), O_RDONLY | O_CLOEXEC));
}

static int user_namespace(const struct op *op)
{
    shim.userns = CALL(openat, AT_FDCWD, op_string(op, 0), O_RDONLY | O_CLOEXEC);
    shim.is_mapped = shim.userns >= 0;
    return shim.is_mapped ? 0 : -1;
}

/* A cgroup, which the middle process joins while it can still see it. */
static int join_later(const struct op *op)
{
    (void)op;
    return shim.userns < 0 ? (errno = EBADMSG, -1) : 0;
}

/* For the child to come: a process's own pid namespace never changes. */
static int join_pids(const struct op *op)
{
    syscall_name = "setns";
    if (op->a != CLONE_NEWPID)
        return errno = EINVAL, -1;
    int fd = CALL(openat, AT_FDCWD, op_string(op, 0), O_RDONLY | O_CLOEXEC);
    if (shim.userns >= 0) { /* likewise */
        shim.pidns = fd;
        return fd < 0 ? -1 : 0;
    }
    int result = fd < 0 ? -1 : CALL(setns, fd, CLONE_NEWPID);
    close_keeping_errno(fd);
    shim.pids_joined = !result;
    return result;
}

static int oom_v1(const struct op *op)
{
    return oom_watch_v1(op_string(op, 0));
}

static int oom_v2(const struct op *op)
{
    return oom_watch_v2(op_string(op, 0));
}

void close_slots(void)
{
    for (int i = 0; i < SLOTS; i++) {
        close_keeping_errno(shim.slots[i]);
        shim.slots[i] = -1;
    }
}

const struct op *prepare(const struct oplist *list, int *index)
{
    static int (*const functions[])(const struct op *) = {
        [OP_RUNDIR] = rundir,
        [OP_LOG] = open_log,
        [OP_STDIO] = standard_streams,
        [OP_OVERLAY] = prepare_overlay,
        [OP_OPEN_TREE] = prepare_tree,
        [OP_OPEN_CGROUP] = open_cgroup,
        [OP_OOM_V1] = oom_v1,
        [OP_OOM_V2] = oom_v2,
        [OP_OPEN_SHM] = open_shm,
        [OP_USERNS] = user_namespace,
        [OP_OPEN_NS] = open_namespace,
        [OP_WRITE] = join_later,
        [OP_SETNS] = join_pids,
    };
    for (const struct op *op = oplist_first(list); op; op = oplist_next(list, op), ++*index) {
        errno = EBADMSG;
        syscall_name = "oplist";
        if ((op->code > OP_OPEN_NS && op->code != OP_SETNS && op->code != OP_WRITE) || (op->code != OP_RUNDIR && shim.rundir < 0))
            return NULL; /* the container's folder comes first */
        if (op->code == OP_CLONE)
            return op;
        if (functions[op->code](op))
            return NULL;
    }
    return NULL;
}

int write_file(const char *name, const char *text)
{
    char new[64];
    snprintf(new, sizeof new, "%s.new", name);
    int fd = openat(shim.rundir, new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int result = fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) ? -1 : 0;
    close_keeping_errno(fd);
    return result ? result : renameat(shim.rundir, new, shim.rundir, name);
}
