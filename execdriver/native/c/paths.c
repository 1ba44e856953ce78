#define _GNU_SOURCE
#include "paths.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "sys.h"

int path_open(int root, const char *path, uint64_t flags)
{
    int fd, tries = 64;
    while (*path == '/')
        path++;
    do /* EAGAIN: somebody renamed a directory meanwhile, and the kernel could not be sure of a ".." */
        fd = sys_openat2(root, *path ? path : ".", flags | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    while (fd < 0 && errno == EAGAIN && tries--);
    return fd;
}

/* Make every missing directory of `dir`, from the top; each step is resolved from the root again. */
static int make_all(int root, char *dir)
{
    int at = path_open(root, "/", O_PATH | O_DIRECTORY);
    for (char *p = dir; at >= 0 && *p;) {
        while (*p == '/')
            p++;
        char *name = p;
        p += strcspn(p, "/");
        char after = *p;
        *p = 0;
        int next = path_open(root, dir, O_PATH | O_DIRECTORY);
        if (next < 0 && errno == ENOENT && (CALL(mkdirat, at, name, 0755) == 0 || errno == EEXIST))
            next = path_open(root, dir, O_PATH | O_DIRECTORY);
        *p = after;
        close_keeping_errno(at);
        at = next;
    }
    return at;
}

int path_parent(int root, const char *path, char leaf[LEAF_MAX])
{
    char dir[PATH_MAX];
    size_t n = strlen(path);
    while (n && path[n - 1] == '/')
        n--;
    size_t at = n;
    while (at && path[at - 1] != '/')
        at--;
    errno = n >= sizeof dir || n - at >= LEAF_MAX ? ENAMETOOLONG : EEXIST;
    if (errno == ENAMETOOLONG || at == n)
        return -1;
    memcpy(dir, path, at);
    dir[at] = 0;
    memcpy(leaf, path + at, n - at);
    leaf[n - at] = 0;
    if (!strcmp(leaf, ".") || !strcmp(leaf, ".."))
        return -1;
    int fd = path_open(root, dir, O_PATH | O_DIRECTORY);
    return fd < 0 && errno == ENOENT ? make_all(root, dir) : fd;
}

int path_mkdir(int root, const char *path, mode_t mode)
{
    char leaf[LEAF_MAX];
    int dir = path_parent(root, path, leaf);
    int result = dir < 0 ? -1 : CALL(mkdirat, dir, leaf, mode);
    close_keeping_errno(dir);
    return result && errno == EEXIST ? 0 : result;
}

int path_touch(int root, const char *path, mode_t mode)
{
    char leaf[LEAF_MAX];
    int dir = path_parent(root, path, leaf);
    int fd = dir < 0 ? -1 : CALL(openat, dir, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    close_keeping_errno(dir);
    close_keeping_errno(fd);
    return fd < 0 && errno != EEXIST ? -1 : 0;
}
