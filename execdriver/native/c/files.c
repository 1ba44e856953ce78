/* Files of a container, in and out: `windlass-files files WORLD... OPERATION ...`.
 *
 *   WORLD      ops PLACE       a container that does not run: op list on fd 3
 *              namespace       a running one: its mount namespace on fd 3
 *              userns          likewise, with its user namespace on fd 4
 *              folder PATH     a folder of the host
 *   OPERATION  stat PATH                   tell what is there
 *              get PATH NAME               the same, and a tar of it on fd 1, called NAME there
 *              put PATH FLAGS UID GID      unpack the tar on fd 0 into the directory; FLAGS: k, no directory gives way
 *                                          to a file nor the other way round; UID and GID: whose it becomes, -1: as told
 *              export                      a tar of the root file system, without what is mounted in it, on fd 1
 *              list                        a layer's tar on fd 1, of what the list on fd 0 names
 *
 * The report goes to fd 2, in lines: `stat MODE SIZE SECONDS NANOSECONDS TARGET` (the path that a link ends at, in hex,
 * "-" for no link), then `ok ...`, `error ERRNO NAME: SENTENCE`, or
 * `failed ERRNO CALL: SENTENCE` when it did not come to that.  A tar without an `ok` is not whole.
 *
 * PATH is resolved by the kernel inside of the container, after this process has moved there for good: no name is
 * checked first and used later (CVE-2018-15664), nothing is mounted where the container can see it (CVE-2026-41568,
 * CVE-2026-42306), and no program and no library of the container is ever loaded (CVE-2019-14271, CVE-2026-41567).
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>

#include "files.h"
#include "modes.h"
#include "paths.h"
#include "sys.h"
#include "unpack.h"

enum { REPORT = 2, MAX_LINKS = 255, DEEPEST = 4096 /* directories: as many as a path has room for */ };

static int fail(const char *path, const char *sentence)
{
    report_error(REPORT, *path ? path : "/", sentence);
    return 1;
}

/* The world could not be made: no fault of what was asked for. */
static int fail_world(void)
{
    dprintf(REPORT, "failed %d %s: %s\n", errno, syscall_name, strerror(errno));
    return 1;
}

/* -- stat ---------------------------------------------------------------------------------------------------- */

/* Take the first component off `rest`. */
static void take(char *rest, char name[PATH_MAX])
{
    size_t length = strcspn(rest, "/"), end = length + strspn(rest + length, "/");
    memcpy(name, rest, length);
    name[length] = 0;
    memmove(rest, rest + end, strlen(rest + end) + 1);
}

/* The text of the link at `path`; -1 when there is none. */
static ssize_t read_link(int root, const char *path, char text[PATH_MAX])
{
    int fd = path_open(root, path, O_PATH | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", text, PATH_MAX - 1);
    close_keeping_errno(fd);
    text[n < 0 ? 0 : n] = 0;
    return n;
}

/* One more component of a path that is being followed: a link's text goes in front of what is left.  1: it was one. */
static int follow_one(int root, char *done, char *rest)
{
    char name[PATH_MAX], text[PATH_MAX], after[PATH_MAX];
    size_t at = strlen(done);
    take(rest, name);
    if (!strcmp(name, "..")) {
        char *slash = strrchr(done, '/');
        done[slash ? slash - done : 0] = 0;
        return 0;
    }
    errno = ENAMETOOLONG;
    if (at + strlen(name) + 2 > PATH_MAX)
        return -1;
    if (*name && strcmp(name, "."))
        strcat(strcat(done, "/"), name);
    if (done[at] == 0 || read_link(root, done, text) < 0)
        return 0; /* no link, or nothing: it stays as it is written */
    done[*text == '/' ? 0 : at] = 0;
    errno = ENAMETOOLONG;
    if (strlen(text) + strlen(rest) + 2 > PATH_MAX)
        return -1;
    strcpy(after, rest);
    strcat(strcat(strcpy(rest, text + strspn(text, "/")), "/"), after);
    return 1;
}

/* Where the link at `path` ends, as far as it leads anywhere: a text for the client, which asks for it again. */
static int follow(int root, const char *path, char done[PATH_MAX])
{
    char rest[PATH_MAX];
    int links = 0;
    snprintf(rest, sizeof rest, "%s", path + strspn(path, "/"));
    for (*done = 0; *rest;) {
        int followed = follow_one(root, done, rest);
        errno = followed < 0 ? errno : ELOOP;
        if (followed < 0 || (links += followed) > MAX_LINKS)
            return -1;
    }
    if (!*done)
        strcpy(done, "/");
    return 0;
}

/* Open `path`, no link at its end followed. Returns a descriptor of it, or -1. */
static int look(int root, const char *path, struct stat *st)
{
    int fd = path_open(root, path, O_PATH | O_NOFOLLOW);
    if (fd >= 0 && fstat(fd, st))
        return close_keeping_errno(fd), -1;
    return fd;
}

/* Tell what has been found at `path`. Returns -1 when it is a link that leads too far. */
static int tell(int root, const char *path, const struct stat *st)
{
    char target[PATH_MAX];
    if (S_ISLNK(st->st_mode) && follow(root, path, target))
        return -1;
    dprintf(REPORT, "stat %o %lld %lld %ld ", st->st_mode, (long long)st->st_size, (long long)st->st_mtim.tv_sec,
            st->st_mtim.tv_nsec);
    for (const char *p = target; S_ISLNK(st->st_mode) && *p; p++)
        dprintf(REPORT, "%02x", (unsigned char)*p);
    return dprintf(REPORT, S_ISLNK(st->st_mode) ? "\n" : "-\n") < 0 ? -1 : 0;
}

/* -- operations: an exit status each -------------------------------------------------------------------------- */

static int done(int failed, const char *name)
{
    if (failed || tar_put_end())
        return fail(name, "");
    return dprintf(REPORT, "ok\n") < 0;
}

static int stat_one(int root, char **arguments)
{
    struct stat st;
    int fd = look(root, arguments[0], &st);
    return fd < 0 || tell(root, arguments[0], &st) ? fail(arguments[0], "") : 0;
}

/* The directory that `path` is in; `leaf` gets its last name. */
static int open_parent(int root, const char *path, char leaf[LEAF_MAX])
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    errno = ENAMETOOLONG;
    if (strlen(path) >= PATH_MAX || strlen(name) >= LEAF_MAX)
        return -1;
    memcpy(folder, path, name - path);
    folder[name - path] = 0;
    strcpy(leaf, name);
    return path_open(root, folder, O_PATH | O_DIRECTORY);
}

/* Anything but a directory is found again in the one that it is in: there is no other way to open it. */
static int get(int root, char **arguments)
{
    const char *path = arguments[0];
    char leaf[LEAF_MAX] = ".";
    struct stat st;
    int dir = look(root, path, &st);
    if (dir >= 0 && !S_ISDIR(st.st_mode)) {
        close(dir);
        dir = open_parent(root, path, leaf);
    }
    if (dir < 0 || tell(root, path, &st))
        return fail(path, "");
    return done(walk(dir, leaf, arguments[1]), walk_name);
}

static int export(int root, char **arguments)
{
    (void)arguments;
    return done(walk(root, ".", ""), walk_name);
}

static int list(int root, char **arguments)
{
    (void)arguments;
    return done(walk_list(root, 0), walk_name);
}

static int64_t id(const char *text)
{
    return *text == '-' ? -1 : (int64_t)strtoul(text, NULL, 10);
}

/* Names in the archive are looked up from the directory, and where links lead is this process's own root. */
static int put(int dir, char **arguments)
{
    struct unpack_rules rules = {.root = dir, .broker = -1, .resolve = RESOLVE_NO_MAGICLINKS, .copies = 1,
                                 .keeps_kinds = *arguments[1] == 'k', .uid = id(arguments[2]), .gid = id(arguments[3])};
    return unpack_stream(0, REPORT, &rules);
}

/* Open where an archive is to be unpacked. Returns its descriptor, or -1 when it has been told why not, in Docker's
 * words: a path that crosses no mount ends in the root file system. */
static int open_target(int root, const char *path)
{
    struct statvfs fs;
    int dir = path_open(root, path, O_PATH | O_DIRECTORY);
    if (dir < 0) {
        errno = errno == ENOTDIR ? 0 : errno;
        return fail(path, "extraction point is not a directory"), -1;
    }
    if (fstatvfs(dir, &fs) || !(fs.f_flag & ST_RDONLY))
        return dir;
    int inside = sys_openat2(root, *path ? path : ".", O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_XDEV);
    errno = 0;
    return fail(path, inside < 0 ? "mounted volume is marked read-only" : "container rootfs is marked read-only"), -1;
}

static const struct operation {
    const char *name;
    int arguments;
    int (*function)(int root, char **arguments);
} operations[] = {
    {"stat", 1, stat_one}, {"get", 2, get}, {"put", 4, put}, {"export", 0, export}, {"list", 0, list},
};

static int enter(char ***argv)
{
    const char *world = *(*argv)++;
    if (!strcmp(world, "ops"))
        return world_of_ops(*(*argv)++);
    if (!strcmp(world, "folder"))
        return world_of_folder(*(*argv)++);
    return world_of_namespace(strcmp(world, "userns") ? -1 : 4);
}

static int run(int root, const struct operation *operation, char **arguments)
{
    if (operation->function == export && (root = without_mounts(root)) < 0)
        return fail_world();
    int target = operation->function == put ? open_target(root, arguments[0]) : root;
    if (target < 0)
        return 1;
    if (unpack_prepare() || confine_drop(1, DEEPEST))
        return fail_world();
    return operation->function(target, arguments);
}

int files_main(int argc, char **argv)
{
    char **arguments = argv + 1;
    if (argc < 3 || CALL(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
        return 64;
    umask(0);
    CALL(close_range, 5, ~0U, 0);
    int root = enter(&arguments);
    if (root < 0)
        return fail_world();
    CALL(close_range, 3, root - 1, 0);
    CALL(close_range, root + 1, ~0U, 0);
    for (size_t i = 0; *arguments && i < sizeof operations / sizeof *operations; i++)
        if (!strcmp(*arguments, operations[i].name) && argv + argc - arguments - 1 == operations[i].arguments)
            return run(root, &operations[i], arguments + 1);
    return 64;
}
