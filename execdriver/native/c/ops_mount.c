/* Mounts.  All of them by descriptor: openat2 finds the place, move_mount fills it. */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "child.h"
#include "paths.h"
#include "sys.h"

/* mount(2)'s flags as fsmount(2)'s attributes; -1 when one has no counterpart on a mount. */
static int64_t attributes_of(uint64_t flags)
{
    static const struct {
        uint64_t flag, attribute;
    } table[] = {
        {MS_RDONLY, MOUNT_ATTR_RDONLY},
        {MS_NOSUID, MOUNT_ATTR_NOSUID},
        {MS_NODEV, MOUNT_ATTR_NODEV},
        {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
        {MS_NOATIME, MOUNT_ATTR_NOATIME},
        {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME},
        {MS_STRICTATIME, MOUNT_ATTR_STRICTATIME},
        {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
        {MS_RELATIME, MOUNT_ATTR_RELATIME},
        {MS_REMOUNT | MS_BIND | MS_REC | MS_SILENT, 0},
    };
    int64_t attributes = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (flags & table[i].flag)
            attributes |= table[i].attribute;
        flags &= ~table[i].flag;
    }
    return flags ? -1 : attributes;
}

/* "mode=755,size=64k,nr_inodes" as one fsconfig call each. */
static int configure(int fs, const char *options)
{
    char text[4096], *next;
    if (strlen(options) >= sizeof text)
        return errno = E2BIG, -1;
    strcpy(text, options);
    for (char *key = text; key && *key; key = next) {
        next = strchr(key, ',');
        if (next)
            *next++ = 0;
        char *value = strchr(key, '=');
        if (value)
            *value++ = 0;
        if (*key && sys_fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value))
            return -1;
    }
    return 0;
}

int mount_new(const char *type, const char *source, const char *options, uint64_t attributes)
{
    int fd = -1, fs = CALL(fsopen, type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return -1;
    if ((!*source || !sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", source)) && !configure(fs, options) &&
        !sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL))
        fd = CALL(fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    close_keeping_errno(fs);
    return fd;
}

int op_private(struct child *child, const struct op *op)
{
    (void)child, (void)op;
    struct mount_attr attr = {.propagation = MS_SLAVE};
    return CALL(mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof attr);
}

int op_root(struct child *child, const struct op *op)
{
    int place = CALL(openat, AT_FDCWD, op_string(op, 0), O_PATH | O_DIRECTORY | O_CLOEXEC);
    int result = place < 0 ? -1 : sys_move_mount(child->slots[op->a], place);
    close_keeping_errno(place);
    if (!result) {
        child->root = child->slots[op->a];
        child->slots[op->a] = -1;
        child->rooted = true;
    }
    return result;
}

/* Put a detached mount on a path inside the root; the descriptor is used up. */
static int attach(struct child *child, int mount, const char *path, uint64_t flags)
{
    int place = mount < 0 ? -1 : path_open(child->root, path, O_PATH | flags);
    int result = place < 0 ? -1 : sys_move_mount(mount, place);
    close_keeping_errno(place);
    close_keeping_errno(mount);
    return result;
}

/* Open the place of a user's mount, made when missing.  No image can move it onto procfs, where only files that are
 * known to be harmless may be covered (CVE-2019-16884, CVE-2023-28642).  `existing` gets its mode if it was there. */
static int open_place(struct child *child, const struct op *op, bool is_directory, mode_t *existing)
{
    struct stat st;
    struct statfs fs;
    const char *path = op_string(op, 0);
    int place = path_open(child->root, path, O_PATH);
    bool is_new = place < 0 && errno == ENOENT && op->b & PLACE_MAKE;
    if (is_new && !(is_directory ? path_mkdir(child->root, path, 0755) : path_touch(child->root, path, 0644)))
        place = path_open(child->root, path, O_PATH);
    if (place < 0 || !(op->b & PLACE_MAKE))
        return place;
    syscall_name = "fstat";
    if (fstat(place, &st) || fstatfs(place, &fs)) {
        close_keeping_errno(place);
        return -1;
    }
    if (fs.f_type == PROC_SUPER_MAGIC && !(op->b & PLACE_PROC)) {
        close(place);
        syscall_name = "procfs";
        return errno = EPERM, -1;
    }
    *existing = is_new ? 0 : st.st_mode & 07777;
    return place;
}

/* A new tmpfs where a user wants one: it has the mode of the directory that it covers, as runc has it. */
static int mount_tmpfs(struct child *child, const struct op *op, uint64_t attributes)
{
    mode_t mode = 0;
    char options[4096] = "mode=0000,";
    int place = open_place(child, op, true, &mode);
    errno = place < 0 ? errno : E2BIG;
    if (place < 0 || strlen(op_string(op, 3)) > sizeof options - 16)
        return close_keeping_errno(place), -1;
    for (int i = 8, rest = mode; i >= 5; i--, rest >>= 3)
        options[i] = '0' + (rest & 7);
    strcpy(options + (mode ? 10 : 0), op_string(op, 3)); /* a mode of the user's comes later and wins */
    int mount = mount_new("tmpfs", op_string(op, 2), options, attributes);
    int result = mount < 0 ? -1 : sys_move_mount(mount, place);
    close_keeping_errno(mount);
    close_keeping_errno(place);
    return result;
}

/* A copy of what is at `subpath` in a detached mount, which is used up: kernels before 6.15 copy attached ones alone, so
 * it is on the root for a moment.  Links inside may lead anywhere inside; the kernel sees to it. */
static int subtree(struct child *child, int mount, const char *subpath)
{
    int copy = -1;
    if (!sys_move_mount(mount, child->root)) {
        int fd = sys_openat2(mount, subpath, O_PATH | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
        copy = fd < 0 ? -1 : sys_clone_tree(fd, AT_RECURSIVE);
        close_keeping_errno(fd);
        int saved = errno;
        const char *call = syscall_name;
        if (CALL(fchdir, mount) || CALL(umount2, ".", MNT_DETACH) || CALL(chdir, "/")) {
            close_keeping_errno(copy);
            copy = -1;
        } else {
            errno = saved;
            syscall_name = call;
        }
    }
    close_keeping_errno(mount);
    return copy;
}

/* What shows the kernel goes to the place itself: a link of the image would have it, and its masks, elsewhere
 * (CVE-2019-19921, CVE-2023-27561). */
static uint64_t place_flags(const char *type)
{
    return !strcmp(type, "proc") || !strcmp(type, "sysfs") ? O_NOFOLLOW | O_DIRECTORY : 0;
}

int op_mount(struct child *child, const struct op *op)
{
    const char *target = op_string(op, 0), *type = op_string(op, 1);
    int64_t attributes = attributes_of(op->a);
    syscall_name = "mount";
    if (attributes < 0 || (op->a & (MS_BIND | MS_REMOUNT)) == MS_BIND)
        return errno = EINVAL, -1;
    if (op->b & PLACE_MAKE)
        return mount_tmpfs(child, op, attributes);
    if (!(op->a & MS_REMOUNT))
        return attach(child, mount_new(type, op_string(op, 2), op_string(op, 3), attributes), target, place_flags(type));
    int fd = path_open(child->root, target, O_PATH);
    int result = fd < 0 ? -1 : sys_mount_setattr(fd, op->a & MS_REC ? AT_RECURSIVE : 0, attributes, 0);
    close_keeping_errno(fd);
    return result;
}

int op_bind(struct child *child, const struct op *op)
{
    int mount = child->slots[op->a];
    struct stat st;
    mode_t mode;
    child->slots[op->a] = -1;
    errno = EBADF;
    if (mount >= 0 && op->nstr == 2)
        mount = subtree(child, mount, op_string(op, 1));
    if (mount < 0)
        return -1;
    syscall_name = "fstat";
    int place = fstat(mount, &st) ? -1 : open_place(child, op, S_ISDIR(st.st_mode), &mode);
    int result = place < 0 ? -1 : sys_move_mount(mount, place);
    close_keeping_errno(place);
    close_keeping_errno(mount);
    return result;
}

/* The cover for a directory: one empty tmpfs, made once; later ones are clones of its mount. */
static int empty_directory(struct child *child)
{
    if (child->empty >= 0)
        return sys_clone_tree(child->empty, 0);
    return mount_new("tmpfs", "tmpfs", "size=0,nr_inodes=1,mode=555",
                     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

/* The cover for a file: the host's null device, on a read-only mount, so that nobody inside can chmod the host's. */
static int null_device(struct child *child)
{
    int fd = sys_clone_tree(child->null, 0);
    if (fd >= 0 && sys_mount_setattr(fd, 0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, MS_PRIVATE)) {
        close_keeping_errno(fd);
        return -1;
    }
    return fd;
}

static bool is_missing(void)
{
    return errno == ENOENT || errno == ENOTDIR;
}

int op_mask(struct child *child, const struct op *op)
{
    struct stat st;
    int place = path_open(child->root, op_string(op, 0), O_PATH);
    if (place < 0)
        return is_missing() ? 0 : -1;
    syscall_name = "fstat";
    bool is_directory = !fstat(place, &st) && S_ISDIR(st.st_mode);
    int cover = is_directory ? empty_directory(child) : null_device(child);
    int result = cover < 0 ? -1 : sys_move_mount(cover, place);
    close_keeping_errno(place);
    if (!result && is_directory && child->empty < 0)
        child->empty = cover;
    else
        close_keeping_errno(cover);
    return result;
}

int op_readonly(struct child *child, const struct op *op)
{
    int place = path_open(child->root, op_string(op, 0), O_PATH);
    if (place < 0)
        return is_missing() ? 0 : -1;
    int copy = sys_clone_tree(place, AT_RECURSIVE);
    int result = copy < 0 ? -1 : sys_mount_setattr(copy, AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0);
    if (!result)
        result = sys_move_mount(copy, place);
    close_keeping_errno(copy);
    close_keeping_errno(place);
    return result;
}

int op_readonly_root(struct child *child, const struct op *op)
{
    (void)op;
    return sys_mount_setattr(child->root, 0, MOUNT_ATTR_RDONLY, 0);
}

int op_pivot(struct child *child, const struct op *op)
{
    (void)op;
    /* The old root ends up on top of the new one, at the same place: no directory is needed for it. */
    if (CALL(fchdir, child->root) || CALL(pivot_root, ".", ".") || CALL(umount2, ".", MNT_DETACH) || CALL(chdir, "/"))
        return -1;
    child->inside = true;
    child_close_slots(child);
    return 0;
}
