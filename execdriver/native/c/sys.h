/* System calls that a libc of 2023 lacks or wraps wrongly for us (setxid broadcasts to threads).
 *
 * Each wrapper notes its name, so that a failure can be told with the call that failed.
 * <sys/mount.h> and <sched.h> stay out: glibc's clash with the kernel's own headers.
 */
#ifndef WINDLASS_SYS_H
#define WINDLASS_SYS_H
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif

extern const char *syscall_name; /* of the last call made through here, or noted by hand */

/* Negative errno to -1 and errno is what syscall(2) does already; the cast keeps callers short. */
#define CALL(name, ...) (syscall_name = #name, (int)syscall(SYS_##name, __VA_ARGS__))

static inline int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    return CALL(openat2, dir, path, &how, sizeof how);
}

/* A detached copy of the mount at `fd`; with AT_RECURSIVE also of those below. */
static inline int sys_clone_tree(int fd, unsigned flags)
{
    return CALL(open_tree, fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
}

/* Move the mount at `from` onto the place at `to`: no name is resolved. */
static inline int sys_move_mount(int from, int to)
{
    return CALL(move_mount, from, "", to, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static inline int sys_mount_setattr(int fd, unsigned flags, uint64_t set, uint64_t propagation)
{
    struct mount_attr attr = {.attr_set = set, .propagation = propagation};
    if (set & MOUNT_ATTR__ATIME)
        attr.attr_clr = MOUNT_ATTR__ATIME; /* the atime bits are one value: the kernel wants it cleared first */
    return CALL(mount_setattr, fd, "", AT_EMPTY_PATH | flags, &attr, sizeof attr);
}

/* Let owners on the detached mount at `fd` be those that they are in a user namespace. */
static inline int sys_map_owners(int fd, unsigned flags, int userns)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = userns};
    return CALL(mount_setattr, fd, "", AT_EMPTY_PATH | flags, &attr, sizeof attr);
}

static inline int sys_fsconfig(int fs, unsigned command, const char *key, const char *value)
{
    return CALL(fsconfig, fs, command, key, value, 0);
}

static inline int sys_pidfd_send_signal(int pidfd, int signal)
{
    return CALL(pidfd_send_signal, pidfd, signal, NULL, 0);
}

static inline void close_keeping_errno(int fd)
{
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
}

#endif
