/* Files and device nodes in the container's root. */
#define _GNU_SOURCE
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "child.h"
#include "paths.h"
#include "sys.h"

int op_mkdir(struct child *child, const struct op *op)
{
    return path_mkdir(child->root, op_string(op, 0), op->a);
}

int op_touch(struct child *child, const struct op *op)
{
    return path_touch(child->root, op_string(op, 0), op->a);
}

/* A node that is there already is kept when it is the same device, whoever made it. */
static int node_exists(int dir, const char *leaf, const struct op *op)
{
    struct stat st;
    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) || (st.st_mode & S_IFMT) != (op->a & S_IFMT) ||
        st.st_rdev != op->b)
        return errno = EEXIST, -1;
    return 0;
}

int op_mknod(struct child *child, const struct op *op)
{
    char leaf[LEAF_MAX];
    syscall_name = "mknodat";
    if (!S_ISCHR(op->a) && !S_ISBLK(op->a))
        return errno = EINVAL, -1;
    int dir = path_parent(child->root, op_string(op, 0), leaf);
    if (dir < 0)
        return -1;
    /* The system call takes the kernel's small encoding, libc's makedev the large one: libc converts. */
    syscall_name = "mknodat";
    int result = mknodat(dir, leaf, op->a, op->b);
    if (result && errno == EEXIST)
        result = node_exists(dir, leaf, op);
    else if (!result && op->c)
        result = CALL(fchownat, dir, leaf, op->c >> 32, op->c & 0xffffffff, AT_SYMLINK_NOFOLLOW);
    close_keeping_errno(dir);
    return result;
}

int op_symlink(struct child *child, const struct op *op)
{
    char leaf[LEAF_MAX];
    int dir = path_parent(child->root, op_string(op, 1), leaf);
    int result = dir < 0 ? -1 : CALL(symlinkat, op_string(op, 0), dir, leaf);
    close_keeping_errno(dir);
    return result && errno == EEXIST ? 0 : result;
}

int op_device(struct child *child, const struct op *op)
{
    struct stat st;
    const char *target = op_string(op, 1);
    syscall_name = "mount";
    if (child->inside)
        return errno = EPERM, -1; /* the host's nodes are out of reach */
    int fd = CALL(openat, AT_FDCWD, op_string(op, 0), O_PATH | O_CLOEXEC);
    if (fd >= 0 && !fstat(fd, &st) && !S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode)) {
        close(fd);
        return errno = ENODEV, -1;
    }
    int copy = fd < 0 ? -1 : sys_clone_tree(fd, 0);
    int place = copy < 0 || path_touch(child->root, target, 0) ? -1 : path_open(child->root, target, O_PATH);
    int result = place < 0 ? -1 : sys_mount_setattr(copy, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, MS_PRIVATE);
    if (!result)
        result = sys_move_mount(copy, place);
    close_keeping_errno(place);
    close_keeping_errno(copy);
    close_keeping_errno(fd);
    return result;
}
