/* Where a container's files are seen from; see files.h. */
#define _GNU_SOURCE
#include <linux/mount.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "child.h"
#include "files.h"
#include "paths.h"
#include "shim.h"
#include "sys.h"
#include "unpack.h"
#include "userns.h"

static const uint64_t HARMLESS = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/* Mounts of our own, which nobody else has and nothing propagates to. */
static int leave(void)
{
    struct mount_attr private = {.propagation = MS_PRIVATE};
    return CALL(unshare, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) ||
                   CALL(mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof private)
               ? -1
               : 0;
}

/* The world as it will be. From here on no file of it is a device, and none is a program: a container may put one in
 * the place of another file while we look (CVE-2019-14271, and devices that act when they are opened). */
static int settle(void)
{
    struct mount_attr harmless = {.attr_set = HARMLESS};
    int root = CALL(openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || CALL(mount_setattr, root, "", AT_EMPTY_PATH | AT_RECURSIVE, &harmless, sizeof harmless))
        return -1;
    return root;
}

/* -- a container that does not run ---------------------------------------------------------------------------- */

/* The ops of its root and its mounts, which are those of its start, and nothing else. */
static int run_op(struct child *child, const struct op *op)
{
    errno = EBADMSG;
    syscall_name = "oplist";
    if (op->code == OP_OVERLAY)
        return prepare_overlay(op);
    if (op->code == OP_OPEN_TREE)
        return prepare_tree(op);
    if (op->code == OP_ROOT || op->code == OP_BIND) {
        child->slots[op->a] = shim.slots[op->a];
        shim.slots[op->a] = -1;
    }
    if (op->code == OP_ROOT)
        return op_root(child, op);
    if (!child->rooted)
        return -1;
    return op->code == OP_BIND            ? op_bind(child, op)
           : op->code == OP_READONLY_ROOT ? op_readonly_root(child, op)
           : op->code == OP_PIVOT         ? op_pivot(child, op)
                                          : -1;
}

int world_of_ops(const char *place)
{
    struct oplist list;
    struct child child = {.root = -1, .null = -1, .empty = -1};
    memset(child.slots, 0xff, sizeof child.slots);
    memset(shim.slots, 0xff, sizeof shim.slots);
    shim.userns = shim.overlay = -1;
    if (oplist_read(3, &list) || leave())
        return -1;
    /* Old kernels mount overlayfs at a name for a moment: one that nobody else has. */
    int empty = mount_new("tmpfs", "tmpfs", "size=64k,mode=700", HARMLESS);
    int on = empty < 0 ? -1 : CALL(openat, AT_FDCWD, place, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (on < 0 || sys_move_mount(empty, on))
        return -1;
    shim.rundir = empty;
    for (const struct op *op = oplist_first(&list); op; op = oplist_next(&list, op))
        if (run_op(&child, op))
            return -1;
    errno = EBADMSG;
    return child.inside ? settle() : -1;
}

/* -- a running one -------------------------------------------------------------------------------------------- */

/* Take the mounts at `path` off our copy, with those below: what the kernel shows there are no files. */
static int hide(int root, const char *path)
{
    for (;;) { /* several may lie on each other */
        int fd = path_open(root, path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
        if (fd < 0)
            return 0;
        int failed = CALL(fchdir, fd) || CALL(umount2, ".", MNT_DETACH);
        close_keeping_errno(fd);
        if (failed)
            return errno == EINVAL ? 0 : -1; /* none, or no more */
    }
}

int world_of_namespace(int users)
{
    if (users >= 0 && (CALL(setns, users, CLONE_NEWUSER) || userns_become_root()))
        return -1;
    if (CALL(setns, 3, CLONE_NEWNS) || leave())
        return -1;
    int root = CALL(openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || hide(root, "/proc") || hide(root, "/sys") || hide(root, "/dev") || CALL(chdir, "/"))
        return -1;
    close(root);
    return settle();
}

/* -- others --------------------------------------------------------------------------------------------------- */

int world_of_folder(const char *path)
{
    int root = confine_enter(path);
    close_keeping_errno(root);
    return root < 0 ? -1 : settle();
}

int without_mounts(int root)
{
    int alone = sys_clone_tree(root, 0);
    int again = alone < 0 ? -1 : CALL(openat, alone, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close_keeping_errno(alone);
    return again;
}
