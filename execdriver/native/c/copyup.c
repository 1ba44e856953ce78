/* Filling a new volume with what an image has at its place: `windlass-files copyup TARGET PATH LOWER...`.
 *
 * TARGET is the volume's folder, PATH a path of the image, LOWER its layers, topmost first.  The report is one line on
 * fd 1: `copied`, `kept` (the volume is not empty), `missing` (the image has no such folder), or `error ERRNO NAME`.
 * On an error what has been copied stays.
 *
 * PATH comes from the image's own configuration, and so does everything under it: it is resolved by openat2 inside the
 * layers, which are mounted read-only (CVE-2022-23648, CVE-2014-9356), and below it no name is ever followed.  Links
 * are copied as links, hard ones too; FIFOs and sockets are made anew, never opened; devices are left out.  Others may
 * use the volume meanwhile: names in it are not followed either, and nothing in it is replaced.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "child.h"
#include "modes.h"
#include "overlay.h"
#include "sys.h"
#include "unpack.h"

struct link { /* a file with several names, and the first of them in the volume */
    struct link *next;
    ino_t inode;
    char path[];
};

static int target;
static struct link *links;
static char path[4096]; /* of what is being copied, in the volume; for links and for errors */

static int copy_attributes(int from, int to, const struct stat *st)
{
    static char names[64 << 10], value[64 << 10];
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (fchown(to, st->st_uid, st->st_gid) || fchmod(to, st->st_mode & 07777)) /* in this order: chown clears bits */
        return -1;
    ssize_t size = flistxattr(from, names, sizeof names);
    for (const char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
        ssize_t length = is_kept_attribute(name) ? fgetxattr(from, name, value, sizeof value) : -1;
        if (length >= 0 && fsetxattr(to, name, value, length, 0) && errno != EOPNOTSUPP)
            return -1;
    }
    return futimens(to, times);
}

static int copy_data(int from, int to, off_t size)
{
    while (size > 0) {
        ssize_t n = sendfile(to, from, NULL, size > 1 << 30 ? 1 << 30 : size);
        if (n < 0 && errno != EINTR)
            return -1;
        if (!n)
            break;
        size -= n > 0 ? n : 0;
    }
    return 0;
}

static int copy_file(int from, int to, const char *name, const struct stat *st)
{
    struct stat now;
    int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), out = -1, result = -1;
    errno = in < 0 ? errno : ESTALE;
    if (in >= 0 && !fstat(in, &now) && S_ISREG(now.st_mode) &&
        (out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)) >= 0)
        result = copy_data(in, out, st->st_size) || copy_attributes(in, out, st) ? -1 : 0;
    close_keeping_errno(in);
    close_keeping_errno(out);
    return result;
}

/* A link, a FIFO, a socket: nothing that could be opened. */
static int copy_node(int from, int to, const char *name, const struct stat *st)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (S_ISLNK(st->st_mode)) {
        char text[4096];
        ssize_t n = readlinkat(from, name, text, sizeof text);
        errno = n == sizeof text ? ENAMETOOLONG : errno;
        if (n < 0 || n == sizeof text)
            return -1;
        text[n] = 0;
        if (symlinkat(text, to, name))
            return -1;
    } else if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
        return 0;
    else if (mknodat(to, name, st->st_mode, 0))
        return -1;
    return fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) ||
                   utimensat(to, name, times, AT_SYMLINK_NOFOLLOW)
               ? -1
               : 0;
}

/* Give a file that is there by its first name this one too. Returns 1 when there is none yet. */
static int copy_link(int to, const char *name, const struct stat *st)
{
    struct link *link = links;
    while (link && link->inode != st->st_ino)
        link = link->next;
    if (!link) {
        link = malloc(sizeof *link + strlen(path) + 1);
        if (!link)
            return -1;
        *link = (struct link){links, st->st_ino};
        strcpy(link->path, path);
        links = link;
        return 1;
    }
    char folder[sizeof path], *slash;
    strcpy(folder, link->path);
    slash = strrchr(folder, '/');
    *slash = 0;
    int dir = sys_openat2(target, *folder ? folder + 1 : ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                          RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
    int result = dir < 0 ? -1 : linkat(dir, slash + 1, to, name, 0);
    close_keeping_errno(dir);
    return result;
}

static int copy_directory(int from, int to);

static int copy_entry(int from, int to, const char *name)
{
    struct stat st;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW))
        return -1;
    if (!S_ISDIR(st.st_mode)) {
        int linked = st.st_nlink > 1 ? copy_link(to, name, &st) : 1;
        if (linked < 1)
            return linked;
        return S_ISREG(st.st_mode) ? copy_file(from, to, name, &st) : copy_node(from, to, name, &st);
    }
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int in = openat(from, name, flags);
    int out = in < 0 || mkdirat(to, name, 0700) ? -1 : openat(to, name, flags);
    int result = out < 0 ? -1 : copy_directory(in, out);
    close_keeping_errno(in);
    close_keeping_errno(out);
    return result;
}

/* Copy what is in `from`, then its own attributes: its time would change with what is made in it. */
static int copy_directory(int from, int to)
{
    struct stat st;
    struct dirent *entry;
    int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = again < 0 ? NULL : fdopendir(again);
    if (!stream)
        return close_keeping_errno(again), -1;
    size_t length = strlen(path);
    int result = 0;
    while (!result && (errno = 0, entry = readdir(stream))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        errno = ENAMETOOLONG;
        result = length + strlen(entry->d_name) + 2 > sizeof path ? -1 : 0;
        if (!result) {
            sprintf(path + length, "/%s", entry->d_name);
            result = copy_entry(from, to, entry->d_name);
        }
        if (!result)
            path[length] = 0; /* otherwise it is told */
    }
    if (!result && (errno || fstat(from, &st) || copy_attributes(from, to, &st)))
        result = -1;
    int saved = errno;
    closedir(stream);
    errno = saved;
    return result;
}

/* 1: it is, 0: it is not, -1 with errno. */
static int is_empty(int fd)
{
    struct dirent *entry;
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = 0;
    DIR *stream = again < 0 ? NULL : fdopendir(again);
    if (!stream)
        return close_keeping_errno(again), -1;
    while (count < 3 && (errno = 0, entry = readdir(stream)))
        count++;
    int saved = errno;
    closedir(stream);
    errno = saved;
    return count >= 3 ? 0 : saved ? -1 : 1;
}

/* -- the mode ------------------------------------------------------------------------------------------------ */

/* Open the image's root, and make an empty tmpfs our own: nothing of the host is left but the two descriptors. */
static int enter(const char *place, char **lower, int layers)
{
    char name[sizeof path];
    struct mount_attr private = {.propagation = MS_PRIVATE};
    if (CALL(unshare, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) ||
        CALL(mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof private))
        return -1;
    int empty = mount_new("tmpfs", "tmpfs", "size=64k,mode=700", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    int on = empty < 0 ? -1 : CALL(openat, AT_FDCWD, place, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (on < 0 || sys_move_mount(empty, on))
        return -1;
    errno = ENAMETOOLONG;
    if (snprintf(name, sizeof name, "%s/overlay", place) >= (int)sizeof name)
        return -1;
    struct overlay image = {"", "", (const char *const *)lower, layers, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV};
    /* overlayfs wants two layers at least */
    int root = layers == 1 ? CALL(openat, AT_FDCWD, lower[0], O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                           : overlay_mount(&image, name);
    if (root < 0 || CALL(fchdir, empty) || CALL(pivot_root, ".", ".") || CALL(umount2, ".", MNT_DETACH) ||
        CALL(chdir, "/"))
        return -1;
    return root;
}

static const char *copy(const char *place, const char *inside, char **lower, int layers)
{
    static const uint64_t rules = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    target = CALL(openat, AT_FDCWD, place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int root = target < 0 ? -1 : enter(place, lower, layers);
    if (root < 0 || confine_drop(1, 512))
        return NULL;
    int from = sys_openat2(root, inside, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, rules);
    if (from < 0)
        return errno == ENOENT ? "missing" : NULL;
    int empty = is_empty(target);
    if (empty < 1)
        return empty ? NULL : "kept";
    return copy_directory(from, target) ? NULL : "copied";
}

int copyup_main(int argc, char **argv)
{
    if (argc < 4)
        return 64;
    CALL(close_range, 3, ~0U, 0);
    umask(0);
    const char *done = copy(argv[1], argv[2], argv + 3, argc - 3);
    if (done)
        dprintf(1, "%s\n", done);
    else
        dprintf(1, "error %d %s\n", errno, *path ? path : argv[2]);
    return !done;
}
