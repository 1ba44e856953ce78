/* Going through the files of a container that may change them meanwhile, by whoever it likes.
 *
 * Below the first directory no name is followed: each is opened in the directory that it was found in, and what it is
 * then is what is told.  Names are sorted, so that the same files always give the same archive.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "sys.h"

/* A name in the archive: a path of the container, and a first part that the client has chosen. */
enum { NAME = 2 * PATH_MAX };
char walk_name[NAME];

/* -- files with several names ---------------------------------------------------------------------------------- */

struct seen {
    dev_t device;
    ino_t inode;
    char *name;
};

static struct seen *seen; /* a hash table; NULL names are free */
static size_t nseen, room;

static struct seen *slot_of(struct seen *table, size_t size, dev_t device, ino_t inode)
{
    size_t i = (inode ^ device << 40) * 0x9e3779b97f4a7c15u >> 20;
    while (table[i &= size - 1].name && (table[i].inode != inode || table[i].device != device))
        i++;
    return &table[i];
}

static int grow(void)
{
    size_t size = room ? 2 * room : 256;
    struct seen *table = calloc(size, sizeof *table);
    if (!table)
        return -1;
    for (size_t i = 0; i < room; i++)
        if (seen[i].name)
            *slot_of(table, size, seen[i].device, seen[i].inode) = seen[i];
    free(seen);
    seen = table;
    room = size;
    return 0;
}

/* The first name of a file, NULL if this is it, which is remembered. -1 with errno by `failed`. */
static const char *first_name(const struct stat *st, int *failed)
{
    if (st->st_nlink < 2)
        return NULL;
    if (2 * nseen >= room && (*failed = grow()))
        return NULL;
    struct seen *slot = slot_of(seen, room, st->st_dev, st->st_ino);
    if (slot->name)
        return slot->name;
    *slot = (struct seen){st->st_dev, st->st_ino, strdup(walk_name)};
    nseen += slot->name != NULL;
    *failed = slot->name ? 0 : -1;
    return NULL;
}

/* -- one file --------------------------------------------------------------------------------------------------- */

/* What happens to a name that somebody else works with at the same time. */
static int has_vanished(void)
{
    return errno == ENOENT || errno == ELOOP || errno == ENXIO || errno == ENOTDIR || errno == ESTALE;
}

/* Open what was a regular file a moment ago.  A device in its place is refused by its mount, which a file whose owner
 * is nobody here is, too: what is there then tells one from the other. */
static int open_file(int dir, const char *leaf)
{
    struct stat st;
    int fd, tries = 64;
    do
        fd = openat(dir, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    while (fd < 0 && errno == EACCES && tries--);
    if (fd < 0 && errno == EACCES && !fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW))
        errno = S_ISREG(st.st_mode) ? EACCES : ESTALE;
    return fd;
}

static int put_file(int dir, const char *leaf)
{
    struct stat st;
    int failed = 0, fd = open_file(dir, leaf);
    if (fd < 0)
        return has_vanished() ? 0 : -1;
    if (fstat(fd, &st))
        failed = -1;
    else if (S_ISREG(st.st_mode)) { /* else it has been swapped */
        const char *first = first_name(&st, &failed);
        if (first)
            failed = tar_put(walk_name, '1', &st, first, -1);
        else if (!failed)
            failed = tar_put(walk_name, '0', &st, "", fd) || tar_put_data(fd, st.st_size);
    }
    close_keeping_errno(fd);
    return failed ? -1 : 0;
}

static int put_link(int dir, const char *leaf, const struct stat *st)
{
    char text[PATH_MAX];
    ssize_t n = readlinkat(dir, leaf, text, sizeof text - 1);
    if (n < 0)
        return errno == EINVAL || has_vanished() ? 0 : -1;
    text[n] = 0;
    return tar_put(walk_name, '2', st, text, -1);
}

static int put_other(int dir, const char *leaf, const struct stat *st)
{
    int failed = 0;
    if (S_ISREG(st->st_mode))
        return put_file(dir, leaf);
    if (S_ISSOCK(st->st_mode))
        return 0; /* there is nothing to archive */
    const char *first = first_name(st, &failed);
    if (failed || first)
        return failed ? -1 : tar_put(walk_name, '1', st, first, -1);
    if (S_ISLNK(st->st_mode))
        return put_link(dir, leaf, st);
    return tar_put(walk_name, S_ISCHR(st->st_mode) ? '3' : S_ISBLK(st->st_mode) ? '4' : '6', st, "", -1);
}

/* A directory's own entry; its name ends in a slash. */
static int put_directory(int fd, const struct stat *st)
{
    size_t length = strlen(walk_name);
    int is_root = length && walk_name[length - 1] == '/';
    strcpy(walk_name + length, is_root ? "" : "/");
    int result = tar_put(walk_name, '5', st, "", fd);
    walk_name[length] = 0;
    return result;
}

/* -- trees ------------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t count)
{
    while (count)
        free(names[--count]);
    free(names);
}

static int add_name(char ***names, size_t count, const char *name)
{
    if (!(count & (count - 1))) { /* the room is a power of two */
        char **more = realloc(*names, (count ? 2 * count : 1) * sizeof **names);
        if (!more)
            return -1;
        *names = more;
    }
    (*names)[count] = strdup(name);
    return (*names)[count] ? 0 : -1;
}

/* The names in a directory, sorted. Returns how many, or -1. */
static ssize_t read_names(int fd, char ***names)
{
    size_t count = 0;
    struct dirent *entry;
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = again < 0 ? NULL : fdopendir(again);
    if (!stream)
        return close_keeping_errno(again), -1;
    *names = NULL;
    while ((errno = 0, entry = readdir(stream)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) {
            if (add_name(names, count, entry->d_name))
                break;
            count++;
        }
    int failed = errno;
    closedir(stream);
    if (failed) {
        free_names(*names, count);
        return errno = failed, -1;
    }
    qsort(*names, count, sizeof **names, compare);
    return count;
}

static int walk_entry(int dir, const char *leaf);

static int walk_inside(int fd)
{
    char **names = NULL;
    size_t length = strlen(walk_name);
    ssize_t count = read_names(fd, &names);
    int result = count < 0 ? -1 : 0;
    for (ssize_t i = 0; !result && i < count; i++) {
        errno = ENAMETOOLONG;
        if (length + strlen(names[i]) + 2 >= NAME)
            result = -1;
        else {
            strcpy(walk_name + length, length && walk_name[length - 1] != '/' ? "/" : "");
            strcat(walk_name + length, names[i]);
            result = walk_entry(fd, names[i]);
        }
        if (!result)
            walk_name[length] = 0; /* otherwise it is told */
    }
    int saved = errno;
    if (count >= 0)
        free_names(names, count);
    errno = saved;
    return result;
}

static int walk_directory(int dir, const char *leaf, const struct stat *st, int is_told)
{
    struct stat now;
    int fd = openat(dir, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return has_vanished() ? 0 : -1;
    int result = is_told && put_directory(fd, fstat(fd, &now) ? st : &now) ? -1 : walk_inside(fd);
    close_keeping_errno(fd);
    return result;
}

static int walk_entry(int dir, const char *leaf)
{
    struct stat st;
    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW))
        return has_vanished() ? 0 : -1;
    return S_ISDIR(st.st_mode) ? walk_directory(dir, leaf, &st, *walk_name) : put_other(dir, leaf, &st);
}

int walk(int dir, const char *leaf, const char *name)
{
    errno = ENAMETOOLONG;
    if (strlen(name) >= NAME - 2)
        return -1;
    strcpy(walk_name, name);
    return walk_entry(dir, leaf);
}

/* -- lists ------------------------------------------------------------------------------------------------------- */

/* One entry of the directory `dir`, and nothing that is in it. */
static int put_alone(int dir, const char *leaf)
{
    struct stat st;
    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW))
        return has_vanished() ? 0 : -1;
    if (!S_ISDIR(st.st_mode))
        return put_other(dir, leaf, &st);
    int fd = openat(dir, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int result = fd < 0 ? has_vanished() - 1 : put_directory(fd, &st);
    close_keeping_errno(fd);
    return result;
}

static int put_whiteout(const char *folder, const char *leaf)
{
    static const struct stat none = {.st_mode = S_IFREG};
    char name[NAME];
    errno = ENAMETOOLONG;
    if (strlen(folder) + strlen(leaf) + 8 >= NAME)
        return -1;
    strcpy(stpcpy(stpcpy(stpcpy(name, folder), *folder ? "/" : ""), ".wh."), leaf);
    return tar_put(name, '0', &none, "", -1);
}

static int put_listed(int root, char *item)
{
    char *path = item + 2, *slash = strrchr(path, '/'), *leaf = slash ? slash + 1 : path;
    errno = EINVAL;
    if (item[1] != '/' || !*leaf || strlen(path) >= NAME - 2)
        return -1;
    strcpy(walk_name, path);
    if (slash)
        *slash = 0;
    const char *folder = slash ? path : "";
    if (*item == '-')
        return put_whiteout(folder, leaf);
    int dir = sys_openat2(root, *folder ? folder : ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                          RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
    int result = dir < 0 ? has_vanished() - 1 : put_alone(dir, leaf);
    close_keeping_errno(dir);
    return result;
}

int walk_list(int root, int input)
{
    static char buffer[4 * PATH_MAX];
    size_t filled = 0;
    for (;;) {
        ssize_t n = read(input, buffer + filled, sizeof buffer - filled);
        errno = n < 0 ? errno : ENAMETOOLONG;
        if (n < 0 || (!n && filled))
            return -1; /* the last item has no end, or none has room */
        if (!n)
            return 0;
        filled += n;
        char *item = buffer, *end;
        while ((end = memchr(item, 0, buffer + filled - item))) {
            if (put_listed(root, item))
                return -1;
            item = end + 1;
        }
        filled -= item - buffer;
        memmove(buffer, item, filled);
    }
}
