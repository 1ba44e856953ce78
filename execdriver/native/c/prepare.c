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
#include "paths.h"
#include "shim.h"
#include "sys.h"

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

static int lower_layers(int fs, const struct op *op)
{
    for (unsigned i = 2; i < op->nstr; i++)
        if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", op_string(op, i)))
            return -1;
    return 0;
}

/* Overlay by the new calls, for kernels that take the layers one by one (6.5). */
static int overlay_by_layer(const struct op *op)
{
    const char *upper = op_string(op, 0), *work = op_string(op, 1);
    int mount = -1, fs = CALL(fsopen, "overlay", FSOPEN_CLOEXEC);
    if (fs >= 0 && !sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay") && !lower_layers(fs, op) &&
        (!*upper || (!sys_fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", upper) &&
                     !sys_fsconfig(fs, FSCONFIG_SET_STRING, "workdir", work))) &&
        !sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL))
        mount = CALL(fsmount, fs, FSMOUNT_CLOEXEC, op->b);
    close_keeping_errno(fs);
    return mount;
}

/* A path inside an option text: colons part layers, commas options. */
static char *put_escaped(char *out, const char *end, const char *path)
{
    for (; *path && out + 2 < end; path++) {
        if (*path == ':' || *path == '\\' || *path == ',')
            *out++ = '\\';
        *out++ = *path;
    }
    return out;
}

static int overlay_options(const struct op *op, char *text, size_t size)
{
    char *out = text, *end = text + size;
    for (unsigned i = 2; i < op->nstr && end - out > 16; i++) {
        out = stpcpy(out, i == 2 ? "lowerdir=" : ":");
        out = put_escaped(out, end - 16, op_string(op, i));
    }
    static const char *const names[] = {",upperdir=", ",workdir="};
    for (int i = 0; i < 2 && *op_string(op, 0) && end - out > 32; i++)
        out = put_escaped(stpcpy(out, names[i]), end - 16, op_string(op, i));
    *out = 0;
    errno = E2BIG;
    return end - out > 32 ? 0 : -1;
}

/* Older kernels: mount(2) takes one page of options and a place, from which the mount is taken off at once. */
static int overlay_by_page(const struct op *op)
{
    char text[4096], place[PATH_MAX];
    snprintf(place, sizeof place, "/proc/self/fd/%d/overlay", shim.rundir);
    syscall_name = "mount";
    if (overlay_options(op, text, sizeof text) || (mkdirat(shim.rundir, "overlay", 0700) && errno != EEXIST))
        return -1;
    int mount = -1;
    if (!CALL(mount, "overlay", place, "overlay", 0, text)) {
        mount = CALL(open_tree, shim.rundir, "overlay", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        syscall(SYS_umount2, place, MNT_DETACH);
    }
    int saved = errno;
    unlinkat(shim.rundir, "overlay", AT_REMOVEDIR);
    errno = saved;
    if (mount >= 0 && sys_mount_setattr(mount, 0, op->b, MS_PRIVATE)) {
        close_keeping_errno(mount);
        return -1;
    }
    return mount;
}

static int overlay(const struct op *op)
{
    int mount = overlay_by_layer(op);
    if (mount < 0 && errno == EINVAL && !strcmp(syscall_name, "fsconfig"))
        mount = overlay_by_page(op);
    shim.overlay = mount < 0 ? -1 : fcntl(mount, F_DUPFD_CLOEXEC, 3);
    return set_slot(op->a, mount);
}

static int open_tree(const struct op *op)
{
    unsigned recursive = op->b ? AT_RECURSIVE : 0;
    int fd = CALL(open_tree, AT_FDCWD, op_string(op, 0), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive);
    /* The clone of a shared mount would pass mounts on in both directions. */
    if (fd >= 0 && sys_mount_setattr(fd, recursive, op->c, MS_PRIVATE)) {
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

/* For the child to come: a process's own pid namespace never changes. */
static int join_pids(const struct op *op)
{
    syscall_name = "setns";
    if (op->a != CLONE_NEWPID)
        return errno = EINVAL, -1;
    int fd = CALL(openat, AT_FDCWD, op_string(op, 0), O_RDONLY | O_CLOEXEC);
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
        [OP_OVERLAY] = overlay,
        [OP_OPEN_TREE] = open_tree,
        [OP_OPEN_CGROUP] = open_cgroup,
        [OP_OOM_V1] = oom_v1,
        [OP_OOM_V2] = oom_v2,
        [OP_OPEN_SHM] = open_shm,
        [OP_SETNS] = join_pids,
    };
    for (const struct op *op = oplist_first(list); op; op = oplist_next(list, op), ++*index) {
        errno = EBADMSG;
        syscall_name = "oplist";
        if ((op->code > OP_OPEN_SHM && op->code != OP_SETNS) || (op->code != OP_RUNDIR && shim.rundir < 0))
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
