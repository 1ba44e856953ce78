/* Unpacking a layer: `windlass-files unpack DIRECTORY overlay|plain`, the uncompressed tar on fd 0, a report on fd 1.
 *
 * The report is one line: `ok FILES BYTES`, or `error ERRNO PATH: SENTENCE`, with errno 0 for what is the archive's
 * fault.  On an error whatever has been unpacked stays; the caller throws the directory away.
 *
 * The directory is the root of this process, so that no name can lead out of it, whatever links the archive makes;
 * besides, parents are resolved by openat2(RESOLVE_IN_ROOT), and the last name is never followed.  What is in the
 * way of an entry is removed first, but for a directory that meets a directory, as Docker does.
 *
 * Whiteouts (OCI image spec, layer.md).  `overlay`: `.wh.NAME` becomes the character device 0:0, `.wh..wh..opq` the
 * attribute trusted.overlay.opaque.  `plain`: the directory holds a copy of the layers below; what a whiteout hides is
 * deleted, what this layer itself has made is kept, wherever in the archive the whiteout stands.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "modes.h"
#include "sys.h"
#include "unpack.h"
#include "unpack_tar.h"

struct stamp { /* a directory's time, set when nothing is made in it any more */
    struct stamp *next;
    struct timespec mtime;
    char path[];
};

static struct unpacking {
    struct unpack_rules rules;
    uint64_t files, bytes;
    struct stamp *stamps;
    ino_t *made; /* plain: a hash set of what this layer has made */
    size_t nmade, room;
    char path[TAR_PATH], target[TAR_PATH];
    struct tar tar;
} *u; /* mapped: in .bss it would cost the other modes pages */

static const char *error; /* what is wrong, when errno is 0 */

static int refuse(const char *sentence)
{
    error = sentence;
    errno = 0;
    return -1;
}

/* -- what this layer has made (plain only) ------------------------------------------------------------------- */

static ino_t *slot_of(ino_t inode)
{
    size_t i = inode * 0x9e3779b97f4a7c15u >> 20;
    while (u->made[i &= u->room - 1] && u->made[i] != inode)
        i++;
    return &u->made[i];
}

static int grow_made(void)
{
    ino_t *old = u->made;
    size_t count = u->room;
    u->room = count ? count * 2 : 1024;
    u->made = calloc(u->room, sizeof *u->made);
    if (!u->made)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (old[i])
            *slot_of(old[i]) = old[i];
    free(old);
    return 0;
}

static int remember(int parent, const char *name)
{
    struct stat st;
    if (u->rules.broker >= 0 || u->rules.copies)
        return 0;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW))
        return -1;
    if (2 * u->nmade >= u->room && grow_made())
        return -1;
    ino_t *slot = slot_of(st.st_ino);
    u->nmade += !*slot;
    *slot = st.st_ino;
    return 0;
}

static int is_made(const struct stat *st)
{
    return u->room && *slot_of(st->st_ino);
}

/* -- removing ------------------------------------------------------------------------------------------------ */

static int remove_tree(int parent, const char *name, int keep_made);

static int remove_entries(int dir, int keep_made)
{
    DIR *stream = fdopendir(dir);
    struct dirent *entry;
    int result = 0;
    if (!stream)
        return close_keeping_errno(dir), -1;
    while (!result && (errno = 0, entry = readdir(stream)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            result = remove_tree(dirfd(stream), entry->d_name, keep_made);
    if (!result && errno)
        result = -1;
    int saved = errno;
    closedir(stream);
    errno = saved;
    return result;
}

/* Remove `name`, whatever it is; with `keep_made` all but what this layer has made. */
static int remove_tree(int parent, const char *name, int keep_made)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? 0 : -1;
    int kept = keep_made && is_made(&st);
    if (!S_ISDIR(st.st_mode))
        return kept ? 0 : unlinkat(parent, name, 0);
    int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0 || remove_entries(dir, keep_made))
        return -1;
    if (kept || !unlinkat(parent, name, AT_REMOVEDIR))
        return 0;
    return keep_made && errno == ENOTEMPTY ? 0 : -1;
}

/* -- names --------------------------------------------------------------------------------------------------- */

/* `path` without "/" at its ends, "." and "//"; "" is the root. */
static int clean(const char *path, char out[TAR_PATH])
{
    char *end = out;
    while (*path) {
        size_t length = strcspn(path, "/");
        if (length == 2 && !memcmp(path, "..", 2))
            return refuse("a name has \"..\" in it");
        if (length > 255)
            return refuse("a part of a name is longer than 255 bytes");
        if (length && !(length == 1 && *path == '.')) {
            if (end != out)
                *end++ = '/';
            memcpy(end, path, length);
            end += length;
        }
        path += length + (path[length] == '/');
    }
    *end = 0;
    return 0;
}

static int open_inside(const char *path, uint64_t flags)
{
    return sys_openat2(u->rules.root, *path ? path : ".", flags | O_CLOEXEC, 0, u->rules.resolve);
}

static int is_whiteout(int parent, const char *name)
{
    struct stat st;
    return !fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISCHR(st.st_mode) && !st.st_rdev;
}

static int mark_opaque(int parent, const char *name)
{
    int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), failed = 0;
    if (dir < 0)
        return -1;
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof dir)];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof dir), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec data = {"d", 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.head), &dir, sizeof dir);
    if (sendmsg(u->rules.broker, &message, MSG_NOSIGNAL) != 1 || read(u->rules.broker, &failed, sizeof failed) != sizeof failed)
        failed = errno ? errno : EPIPE;
    close(dir);
    errno = failed;
    return failed ? -1 : 0;
}

/* Make a directory; where it takes a whiteout's place, it hides what the whiteout hid. */
static int make_directory(int parent, const char *name)
{
    int hides = u->rules.broker >= 0 && is_whiteout(parent, name);
    if (hides && unlinkat(parent, name, 0))
        return -1;
    if (mkdirat(parent, name, 0755) || remember(parent, name))
        return -1;
    return hides ? mark_opaque(parent, name) : 0;
}

/* Open the directory `path`, made with its parents when missing. `path` is changed, and put back. */
static int open_directory(char *path)
{
    int fd = open_inside(path, O_PATH | O_DIRECTORY);
    if (fd >= 0 || (errno != ENOENT && errno != ENOTDIR) || !*path)
        return fd;
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = 0;
    int parent = open_directory(slash ? path : path + strlen(path));
    if (slash)
        *slash = '/';
    if (parent < 0)
        return -1;
    const char *name = slash ? slash + 1 : path;
    if (!make_directory(parent, name))
        fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    else if (errno == EEXIST)
        errno = ENOTDIR; /* a file is in the way, or a link that leads nowhere */
    close_keeping_errno(parent);
    return fd;
}

/* Open what `path` is in; `leaf` is set to its last name. */
static int open_parent(char *path, char **leaf)
{
    char *slash = strrchr(path, '/');
    *leaf = slash ? slash + 1 : path;
    if (!slash)
        return open_inside("", O_PATH | O_DIRECTORY);
    *slash = 0;
    int fd = open_directory(path);
    *slash = '/';
    return fd;
}

/* -- entries ------------------------------------------------------------------------------------------------- */

int is_kept_attribute(const char *name)
{
    if (!strcmp(name, "security.capability"))
        return 1;
    return !strncmp(name, "user.", 5) && strncmp(name, "user.overlay.", 13);
}

static uid_t owner(const struct tar_entry *entry)
{
    return u->rules.uid < 0 ? entry->uid : (uid_t)u->rules.uid;
}

static gid_t group(const struct tar_entry *entry)
{
    return u->rules.gid < 0 ? entry->gid : (gid_t)u->rules.gid;
}

/* Owner first: chown(2) takes set-user-id bits and capabilities away. */
static int set_attributes(int fd, const struct tar_entry *entry)
{
    if (fchown(fd, owner(entry), group(entry)) || fchmod(fd, entry->mode))
        return -1;
    for (unsigned i = 0; i < entry->nxattrs; i++) {
        const struct tar_xattr *attr = &entry->xattrs[i];
        if (is_kept_attribute(attr->name) && fsetxattr(fd, attr->name, attr->value, attr->size, 0) &&
            errno != EOPNOTSUPP)
            return -1;
    }
    return 0;
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR)
            return -1;
        data += n > 0 ? n : 0;
        size -= n > 0 ? n : 0;
    }
    return 0;
}

static int write_data(int fd)
{
    const char *data;
    ssize_t n;
    while ((n = tar_data(&u->tar, &data)) > 0)
        if (write_all(fd, data, n))
            return -1;
    if (n < 0)
        error = u->tar.error;
    return n;
}

static int put_file(int parent, const char *name, const struct tar_entry *entry)
{
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    struct timespec times[2] = {entry->mtime, entry->mtime};
    int result = write_data(fd) || set_attributes(fd, entry) || futimens(fd, times);
    close_keeping_errno(fd);
    u->bytes += entry->size;
    return result ? -1 : 0;
}

static int put_hard_link(int parent, const char *name, const struct tar_entry *entry)
{
    char *leaf;
    if (clean(entry->link, u->target))
        return -1;
    if (!*u->target)
        return refuse("a hard link to the root");
    int from = open_parent(u->target, &leaf);
    if (from < 0)
        return -1;
    int result = linkat(from, leaf, parent, name, 0);
    close_keeping_errno(from);
    return result;
}

/* A symlink, device or FIFO: nothing that could be opened to be changed. */
static int put_node(int parent, const char *name, const struct tar_entry *entry)
{
    static const mode_t kinds[] = {['3'] = S_IFCHR, ['4'] = S_IFBLK, ['6'] = S_IFIFO};
    struct timespec times[2] = {entry->mtime, entry->mtime};
    if (entry->type == '2') {
        if (symlinkat(entry->link, parent, name))
            return -1;
    } else if (mknodat(parent, name, kinds[(int)entry->type] | entry->mode, makedev(entry->major, entry->minor)))
        return -1;
    return fchownat(parent, name, owner(entry), group(entry), AT_SYMLINK_NOFOLLOW) ||
                   utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW)
               ? -1
               : 0;
}

/* Set the attributes of the directory `name`, and remember its time for the end. */
static int put_directory(int parent, const char *name, const char *path, const struct tar_entry *entry)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int result = set_attributes(fd, entry);
    close_keeping_errno(fd);
    struct stamp *stamp = malloc(sizeof *stamp + strlen(path) + 1);
    if (result || !stamp)
        return -1;
    strcpy(stamp->path, path);
    stamp->mtime = entry->mtime;
    stamp->next = u->stamps;
    u->stamps = stamp;
    return 0;
}

/* Make room for an entry. Returns 1 when a directory is there for a directory, 0, or -1. */
static int displace(int parent, const char *name, char type)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? 0 : -1;
    if (type == '5' && S_ISDIR(st.st_mode))
        return 1;
    if (type == '5' && u->rules.broker >= 0 && is_whiteout(parent, name))
        return 0; /* make_directory sees to it */
    if (u->rules.keeps_kinds && S_ISDIR(st.st_mode))
        return refuse("cannot overwrite directory with non-directory");
    if (u->rules.keeps_kinds && type == '5')
        return refuse("cannot overwrite non-directory with directory");
    return remove_tree(parent, name, 0);
}

static int put(int parent, const char *name, const char *path, const struct tar_entry *entry)
{
    int merges = displace(parent, name, entry->type), result;
    if (merges < 0)
        return -1;
    switch (entry->type) {
    case '0':
        result = put_file(parent, name, entry);
        break;
    case '1':
        result = put_hard_link(parent, name, entry);
        break;
    case '5':
        result = (!merges && make_directory(parent, name)) || put_directory(parent, name, path, entry);
        break;
    default:
        result = put_node(parent, name, entry);
    }
    return result || remember(parent, name) ? -1 : 0;
}

/* Hide `name` of the layers below. What this layer has under that name stays: a whiteout is about those below. */
static int hide(int parent, const char *name)
{
    struct stat st;
    if (u->rules.broker < 0)
        return remove_tree(parent, name, 1);
    if (!fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW))
        return S_ISDIR(st.st_mode) ? mark_opaque(parent, name) : 0;
    return mknodat(parent, name, S_IFCHR, 0);
}

static int hide_all(int parent)
{
    if (u->rules.broker >= 0)
        return mark_opaque(parent, ".");
    int dir = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -1 : remove_entries(dir, 1);
}

static int whiteout(int parent, const char *name)
{
    if (!strcmp(name, ".wh..wh..opq"))
        return hide_all(parent);
    if (!strncmp(name, ".wh..wh.", 8))
        return 0; /* aufs' own files (.wh..wh.plnk, .wh..wh.aufs): no part of the layer */
    name += strlen(".wh.");
    if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
        return refuse("a whiteout of nothing");
    return hide(parent, name);
}

static int is_in_whiteout(const char *path)
{
    return !strncmp(path, ".wh.", 4) || strstr(path, "/.wh.");
}

/* Whether `path` is inside of a whiteout. It is changed, and put back. */
static int is_below_whiteout(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        return 0;
    *slash = 0;
    int inside = is_in_whiteout(path);
    *slash = '/';
    return inside;
}

static int unpack_root(const struct tar_entry *entry)
{
    if (entry->type != '5')
        return refuse("the root is no directory");
    return u->rules.copies ? 0 : put_directory(u->rules.root, ".", ".", entry);
}

static int unpack_entry(const struct tar_entry *entry)
{
    char *path = u->path, *leaf;
    if (clean(entry->path, path))
        return -1;
    if (entry->type == '3' && !entry->major && !entry->minor)
        return refuse("the device 0:0 would be a whiteout in disguise");
    if (!*path)
        return unpack_root(entry);
    if (!u->rules.copies && is_below_whiteout(path))
        return strstr(path, ".wh..wh.") ? 0 : refuse("a whiteout is no directory");
    int parent = open_parent(path, &leaf);
    if (parent < 0)
        return -1;
    int hides = !u->rules.copies && !strncmp(leaf, ".wh.", 4);
    int result = hides ? whiteout(parent, leaf) : put(parent, leaf, path, entry);
    close_keeping_errno(parent);
    return result;
}

/* The newest stamp of a directory comes first in the list: older ones are undone by going through it backwards. */
static int set_stamps(void)
{
    struct stamp *forwards = NULL, *next;
    for (struct stamp *stamp = u->stamps; stamp; stamp = next) {
        next = stamp->next;
        stamp->next = forwards;
        forwards = stamp;
    }
    for (struct stamp *stamp = forwards; stamp; stamp = stamp->next) {
        struct timespec times[2] = {stamp->mtime, stamp->mtime};
        int fd = open_inside(stamp->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (fd < 0) {
            if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
                continue; /* something else has taken its place */
            return -1;
        }
        int result = futimens(fd, times);
        close_keeping_errno(fd);
        if (result)
            return -1;
    }
    return 0;
}

/* -- the mode ------------------------------------------------------------------------------------------------ */

int report_error(int output, const char *path, const char *sentence)
{
    char line[5 * TAR_PATH];
    int saved = errno, at = snprintf(line, sizeof line, "error %d ", saved);
    for (; *path && at < (int)sizeof line - 256; path++)
        at += snprintf(line + at, 5, *path > ' ' && *path < 127 && *path != '\\' ? "%c" : "\\%03o",
                       (unsigned char)*path);
    at += snprintf(line + at, sizeof line - at, ": %.200s\n", saved ? strerror(saved) : sentence);
    return write_all(output, line, at);
}

static int report(int output, const char *path)
{
    if (path)
        return report_error(output, path, error);
    char line[64];
    int size = snprintf(line, sizeof line, "ok %llu %llu\n", (unsigned long long)u->files, (unsigned long long)u->bytes);
    return write_all(output, line, size);
}

/* One sync of the file system instead of one of each file: a layer is many small files. */
static int sync_all(int root)
{
    int dir = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = dir < 0 ? -1 : syncfs(dir);
    close_keeping_errno(dir);
    return result;
}

int unpack_prepare(void)
{
    void *memory = mmap(NULL, sizeof *u, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    u = memory == MAP_FAILED ? NULL : memory;
    return u ? 0 : -1;
}

struct unpack_rules unpack_layer(int root, int broker)
{
    return (struct unpack_rules){.root = root, .broker = broker, .uid = -1, .gid = -1,
                                 .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
}

int unpack_stream(int input, int output, const struct unpack_rules *rules)
{
    struct tar_entry entry;
    int got;
    u->rules = *rules, u->tar.fd = input;
    while ((got = tar_next(&u->tar, &entry)) > 0) {
        if (unpack_entry(&entry))
            return report(output, entry.path), 1;
        u->files++;
    }
    if (got < 0) {
        error = u->tar.error;
        return report(output, u->tar.path), 1;
    }
    if (tar_drain(&u->tar) || set_stamps() || (!rules->copies && sync_all(rules->root)))
        return report(output, "."), 1;
    return report(output, NULL) ? 1 : 0;
}

static int fail(const char *what)
{
    static char sentence[200];
    snprintf(sentence, sizeof sentence, "%s: %s", what, strerror(errno));
    errno = 0; /* the host's fault, but told in words: errno alone would not say which call */
    error = sentence;
    report(1, "sandbox");
    return 1;
}

/* The broker: wait for the worker, and speak for it when it was killed. */
static int oversee(pid_t worker, int socket)
{
    int status;
    close(0);
    if (confine_broker(socket))
        return fail(syscall_name);
    while (waitpid(worker, &status, 0) < 0)
        if (errno != EINTR)
            return fail("waitpid");
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    static char sentence[64];
    snprintf(sentence, sizeof sentence, "the unpacker was killed by signal %d", WTERMSIG(status));
    errno = 0;
    error = sentence;
    report(1, "sandbox");
    return 1;
}

int unpack_main(int argc, char **argv)
{
    int pair[2], overlay = argc == 3 && !strcmp(argv[2], "overlay");
    if (argc != 3 || (!overlay && strcmp(argv[2], "plain")) || unpack_prepare())
        return 64;
    CALL(close_range, 3, ~0U, 0);
    umask(0);
    int root = confine_enter(argv[1]);
    if (root < 0)
        return fail(syscall_name);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return fail("socketpair");
    pid_t worker = fork();
    if (worker < 0)
        return fail("fork");
    if (worker) {
        close(pair[1]);
        return oversee(worker, pair[0]);
    }
    close(pair[0]);
    if (CALL(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) || confine_drop(0, 512))
        return fail(syscall_name);
    struct unpack_rules rules = unpack_layer(root, overlay ? pair[1] : -1);
    return unpack_stream(0, 1, &rules);
}
