/* windlass-shim unpack DIR overlay|plain: a layer's tar, uncompressed, on fd 0; one line of answer on fd 1.
 *
 *     ok FILES BYTES                      every entry is there, and on disk
 *     error ERRNO PATH: SENTENCE          refused or failed; the caller throws DIR away
 *
 * THEORY.  The archive comes from a stranger and runs against a kernel that obeys us.  So first everything that it
 * could reach is taken away: own mount, network and ipc namespaces, DIR becomes the root and the old one is gone,
 * few capabilities remain, and a system call filter that knows only what unpacking needs.  Then every name is
 * resolved by the kernel inside that root, to a descriptor of the parent, and the last component never followed:
 * no string is checked and trusted (CVE-2026-17106 and the thirty before it).
 *
 * Whiteouts (OCI image spec, layer.md).  `overlay` turns `.wh.NAME` into a 0:0 character device, and an opaque mark
 * into the xattr that overlayfs reads: that one needs CAP_SYS_ADMIN, so it is kept in this flavour; the filter
 * knows no call that could use it for anything else.  `plain` has the lower layers' files before it, and deletes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "modes.h"
#include "paths.h"
#include "sys.h"
#include "tar.h"

#define ARENA (256u << 20) /* of address space: paths of directories, hashes of what was unpacked */

static int root, is_overlay;
static uint64_t files, bytes;
static struct tar_entry entry;

/* ---- answers ---------------------------------------------------------------------------------------------- */

static int answer_error(int error, const char *path, const char *why)
{
    char line[TAR_PATH_MAX + 256];
    int n = snprintf(line, sizeof line, "error %d %s: %s\n", error, path, why);
    for (char *p = line; n > 0 && p < line + n - 1; p++)
        if (*p == '\n')
            *p = '?'; /* one line, whatever a path has in it */
    return write(1, line, (size_t)n) == n ? 1 : 2;
}

static int fail(const char *why)
{
    int error = errno;
    char text[160];
    snprintf(text, sizeof text, "%s: %s", why, strerror(error));
    return answer_error(error, entry.path, text);
}

static int refuse(const char *why)
{
    return answer_error(0, entry.path, why);
}

/* ---- confinement ------------------------------------------------------------------------------------------ */

static int enter(const char *dir)
{
    int here = -1, tree; /* opened in the new namespace: only its own mounts can be cloned there */
    if (CALL(unshare, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) ||
        CALL(mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        (here = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)) < 0 || (tree = sys_clone_tree(here, 0)) < 0 ||
        sys_move_mount(tree, here) || CALL(fchdir, tree) || CALL(pivot_root, ".", ".") ||
        CALL(umount2, ".", MNT_DETACH) || CALL(chdir, "/"))
        return -1;
    close(here);
    close(tree);
    root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? -1 : 0;
}

static int drop_capabilities(void)
{
    uint64_t keep = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER | 1ull << CAP_FSETID |
                    1ull << CAP_MKNOD | 1ull << CAP_SETFCAP | (is_overlay ? 1ull << CAP_SYS_ADMIN : 0);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{(uint32_t)keep, (uint32_t)keep, 0},
                                             {(uint32_t)(keep >> 32), (uint32_t)(keep >> 32), 0}};
    return CALL(capset, &header, data) || CALL(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -1 : 0;
}

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#endif
#define STATEMENT(code, k) {(code), 0, 0, (k)}
#define ALLOW(name) {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_##name}, STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static int filter_calls(void)
{
    static const struct sock_filter code[] = {
        STATEMENT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCH},
        STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        STATEMENT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(read), ALLOW(write), ALLOW(openat2), ALLOW(openat), ALLOW(close), ALLOW(fchown), ALLOW(fchmod),
        ALLOW(utimensat), ALLOW(mkdirat), ALLOW(fsetxattr), ALLOW(symlinkat), ALLOW(linkat), ALLOW(mknodat),
        ALLOW(fchownat), ALLOW(fchmodat), ALLOW(unlinkat), ALLOW(getdents64), ALLOW(lseek), ALLOW(syncfs),
        ALLOW(exit_group), ALLOW(exit), ALLOW(rt_sigreturn), ALLOW(mmap), ALLOW(munmap), ALLOW(mremap), ALLOW(brk),
#ifdef SYS_newfstatat
        ALLOW(newfstatat),
#endif
        ALLOW(fstat),
        STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, (struct sock_filter *)code};
    return CALL(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

/* ---- what was unpacked ------------------------------------------------------------------------------------ */

/* Directories get their times at the very end; the arena keeps (time, path) of each. */
struct dir_time {
    int64_t s;
    uint32_t ns, length;
};
static char *arena;
static size_t arena_used;

static int remember_dir(void)
{
    struct dir_time t = {entry.mtime, entry.mtime_ns, (uint32_t)strlen(entry.path) + 1};
    if (arena_used + sizeof t + t.length > ARENA)
        return -1;
    memcpy(arena + arena_used, &t, sizeof t);
    memcpy(arena + arena_used + sizeof t, entry.path, t.length);
    arena_used += sizeof t + t.length;
    return 0;
}

static void set_dir_times(void)
{
    for (size_t at = 0; at < arena_used;) {
        struct dir_time t;
        memcpy(&t, arena + at, sizeof t);
        struct timespec times[2] = {{t.s, t.ns}, {t.s, t.ns}};
        int fd = path_open(root, arena + at + sizeof t, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (fd >= 0) { /* replaced by something else later in the archive: then it has no time to set */
            CALL(utimensat, fd, NULL, times, 0);
            close(fd);
        }
        at += sizeof t + t.length;
    }
}

/* Inodes that this run made: an opaque mark in `plain` spares them. Open addressing, a power of two in size. */
#define SEEN (1u << 22)
static uint64_t *seen;
static size_t nseen;

static uint64_t *seen_slot(uint64_t inode)
{
    uint64_t at = inode * 0x9e3779b97f4a7c15u >> 42;
    while (seen[at] && seen[at] != inode)
        at = (at + 1) % SEEN;
    return &seen[at];
}

static int remember_inode(int parent, const char *leaf)
{
    struct stat st;
    if (is_overlay)
        return 0;
    if (fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW))
        return -1;
    uint64_t *slot = seen_slot(st.st_ino);
    errno = EOVERFLOW;
    if (!*slot && ++nseen > SEEN / 2)
        return -1;
    *slot = st.st_ino;
    return 0;
}

/* ---- removing --------------------------------------------------------------------------------------------- */

static int remove_below(int fd, int spare_seen);

/* Remove a name, whatever it is; with `spare_seen` what this run made stays, and the directories above it. */
static int remove_name(int parent, const char *leaf, int spare_seen)
{
    struct stat st;
    if (fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? 0 : -1;
    if (spare_seen && !S_ISDIR(st.st_mode) && *seen_slot(st.st_ino))
        return 0;
    if (!S_ISDIR(st.st_mode))
        return unlinkat(parent, leaf, 0);
    int fd = openat(parent, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int r = remove_below(fd, spare_seen);
    close_keeping_errno(fd);
    if (r || (spare_seen && *seen_slot(st.st_ino)))
        return r;
    return unlinkat(parent, leaf, AT_REMOVEDIR) && !(spare_seen && errno == ENOTEMPTY) ? -1 : 0;
}

static int remove_below(int fd, int spare_seen)
{
    char buffer[8192];
    long n;
    while ((n = CALL(getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n;) {
            struct { /* linux_dirent64, see getdents(2) */
                uint64_t ino;
                int64_t off;
                uint16_t reclen;
                uint8_t type;
                char name[];
            } *d = (void *)(buffer + at);
            at += d->reclen;
            if (strcmp(d->name, ".") && strcmp(d->name, "..") && remove_name(fd, d->name, spare_seen))
                return -1;
        }
    return n < 0 ? -1 : 0;
}

/* ---- entries ---------------------------------------------------------------------------------------------- */

/* The parent of the last entry: archives have the files of a directory one after the other. */
static char parent_path[TAR_PATH_MAX];
static int parent_fd = -1;

static void forget_parent(void)
{
    if (parent_fd >= 0)
        close(parent_fd);
    parent_fd = -1;
}

static int parent_of(const char *path, char leaf[LEAF_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (parent_fd >= 0 && slash && slash[1] && strlen(slash + 1) < LEAF_MAX && !strncmp(parent_path, path, n) &&
        !parent_path[n]) {
        strcpy(leaf, slash + 1);
        return parent_fd;
    }
    forget_parent();
    parent_fd = path_parent(root, path, leaf);
    memcpy(parent_path, path, n);
    parent_path[n] = 0;
    return parent_fd;
}

/* "./a//b/" and "/a/b" are "a/b"; a ".." anywhere is refused, though the kernel would keep it inside. */
static int tidy(char *path)
{
    char *to = path;
    for (char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && !memcmp(p, "..", 2))
            return -1;
        if (n && !(n == 1 && *p == '.')) {
            if (to != path)
                *to++ = '/';
            memmove(to, p, n);
            to += n;
        }
        p += n + (p[n] == '/');
    }
    *to = 0;
    return 0;
}

static int is_allowed_xattr(const char *name)
{
    return !strcmp(name, "security.capability") || (!strncmp(name, "user.", 5) && strncmp(name, "user.overlay.", 13));
}

static int set_attributes(int fd)
{
    struct timespec times[2] = {{entry.mtime, entry.mtime_ns}, {entry.mtime, entry.mtime_ns}};
    if (CALL(fchown, fd, entry.uid, entry.gid) || CALL(fchmod, fd, entry.mode))
        return -1;
    for (int i = 0; i < entry.nxattrs; i++) { /* after the owner: chown clears file capabilities */
        struct tar_xattr *x = &entry.xattrs[i];
        if (is_allowed_xattr(x->name) && CALL(fsetxattr, fd, x->name, x->value, x->size, 0) && errno != EOPNOTSUPP)
            return -1;
    }
    return entry.type == '5' ? 0 : CALL(utimensat, fd, NULL, times, 0);
}

static int write_all(int fd, const char *data, long n)
{
    while (n > 0) {
        ssize_t w = write(fd, data, (size_t)n);
        if (w < 0 && errno != EINTR)
            return -1;
        if (w > 0)
            data += w, n -= w;
    }
    return 0;
}

static int regular(int parent, const char *leaf)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(parent, leaf, flags, 0600);
    if (fd < 0 && errno == EEXIST && !remove_name(parent, leaf, 0))
        fd = openat(parent, leaf, flags, 0600);
    if (fd < 0)
        return fail("cannot create the file");
    long n;
    for (const char *data; (data = tar_data(0, &n));)
        if (write_all(fd, data, n))
            return fail("cannot write the file");
    if (n < 0)
        return refuse(tar_error);
    bytes += entry.size;
    if (set_attributes(fd))
        return fail("cannot set the file's attributes");
    close(fd);
    return 0;
}

static int directory(int parent, const char *leaf)
{
    struct stat st;
    if (!fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW) && !S_ISDIR(st.st_mode) && remove_name(parent, leaf, 0))
        return fail("cannot replace the name by a directory");
    if (mkdirat(parent, leaf, 0700) && errno != EEXIST)
        return fail("cannot make the directory");
    int fd = openat(parent, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || set_attributes(fd))
        return fail("cannot set the directory's attributes");
    close(fd);
    return remember_dir() ? refuse("the archive has too many directories") : 0;
}

static int hard_link(int parent, const char *leaf)
{
    char target[LEAF_MAX];
    if (tidy(entry.link))
        return refuse("a hard link leads out of the layer");
    int from = path_parent(root, entry.link, target);
    if (from < 0)
        return fail("cannot find the hard link's target");
    struct stat a, b;
    if (!fstatat(from, target, &a, AT_SYMLINK_NOFOLLOW) && !fstatat(parent, leaf, &b, AT_SYMLINK_NOFOLLOW) &&
        a.st_ino == b.st_ino && a.st_dev == b.st_dev) {
        close(from);
        return 0;
    }
    int r = remove_name(parent, leaf, 0) || linkat(from, target, parent, leaf, 0);
    close_keeping_errno(from);
    return r ? fail("cannot make the hard link") : 0;
}

/* What has no data and is made by one call: links, devices, pipes. */
static int special(int parent, const char *leaf)
{
    static const struct {
        char type;
        mode_t format;
    } formats[] = {{'3', S_IFCHR}, {'4', S_IFBLK}, {'6', S_IFIFO}};
    struct timespec times[2] = {{entry.mtime, entry.mtime_ns}, {entry.mtime, entry.mtime_ns}};
    if (remove_name(parent, leaf, 0))
        return fail("cannot replace the name");
    if (entry.type == '2' && symlinkat(entry.link, parent, leaf))
        return fail("cannot make the symbolic link");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (entry.type == formats[i].type &&
            (mknodat(parent, leaf, formats[i].format | 0600, makedev(entry.major, entry.minor)) ||
             CALL(fchmodat, parent, leaf, entry.mode)))
            return fail("cannot make the device or pipe");
    if (fchownat(parent, leaf, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) ||
        CALL(utimensat, parent, leaf, times, AT_SYMLINK_NOFOLLOW))
        return fail("cannot set the attributes");
    return 0;
}

static int opaque(int parent)
{
    char dot[] = ".";
    int fd = openat(parent, dot, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -1 : is_overlay ? CALL(fsetxattr, fd, "trusted.overlay.opaque", "y", 1, 0) : remove_below(fd, 1);
    if (r)
        return fail("cannot hide what is below the directory");
    close(fd);
    return 0;
}

static int whiteout(int parent, const char *name)
{
    if (!strcmp(name, ".wh..opq"))
        return opaque(parent);
    if (!strncmp(name, ".wh.", 4))
        return 0; /* aufs's own bookkeeping */
    if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
        return refuse("a whiteout names nothing that could be deleted");
    if (remove_name(parent, name, 0))
        return fail("cannot delete what a whiteout names");
    if (is_overlay && mknodat(parent, name, S_IFCHR, 0))
        return fail("cannot make the whiteout");
    return 0;
}

static int is_device_zero(void)
{
    return entry.type == '3' && !entry.major && !entry.minor;
}

static int unpack_entry(void)
{
    char leaf[LEAF_MAX];
    if (tidy(entry.path))
        return refuse("the path leads out of the layer");
    if (!strchr("0123456", entry.type))
        return refuse("the entry is of a type that a layer cannot have");
    if (is_device_zero())
        return refuse("a 0:0 character device would be a whiteout in disguise");
    if (!*entry.path) { /* the root directory itself */
        int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = entry.type != '5' ? 0 : fd < 0 || set_attributes(fd);
        close_keeping_errno(fd);
        return entry.type != '5' ? refuse("the entry has no name") : r ? fail("cannot set the attributes") : remember_dir();
    }
    int parent = parent_of(entry.path, leaf);
    if (parent < 0)
        return fail("cannot open the directory that it is in");
    if (!strncmp(leaf, ".wh.", 4))
        return whiteout(parent, leaf + 4);
    if (entry.type != '0' && entry.type != '1')
        forget_parent(), parent = parent_of(entry.path, leaf); /* it may replace a directory on the cached way */
    int r = entry.type == '0'   ? regular(parent, leaf)
            : entry.type == '5' ? directory(parent, leaf)
            : entry.type == '1' ? hard_link(parent, leaf)
                                : special(parent, leaf);
    if (!r && remember_inode(parent, leaf))
        r = fail("cannot keep account of the entry");
    if (entry.type != '0' && entry.type != '1')
        forget_parent();
    files++;
    return r;
}

static int unpack_all(void)
{
    int more, r;
    while ((more = tar_next(0, &entry)) > 0) {
        if ((r = unpack_entry()))
            return r;
        long n;
        while (tar_data(0, &n))
            ;
        if (n < 0)
            return refuse(tar_error);
    }
    if (more < 0)
        return refuse(tar_error);
    set_dir_times();
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || CALL(syncfs, fd))
        return fail("cannot sync the layer");
    tar_drain(0);
    char line[64];
    int n = snprintf(line, sizeof line, "ok %llu %llu\n", (unsigned long long)files, (unsigned long long)bytes);
    return write(1, line, (size_t)n) == n ? 0 : 2;
}

static void *reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int unpack_main(int argc, char **argv)
{
    if (argc != 3 || (strcmp(argv[2], "overlay") && strcmp(argv[2], "plain"))) {
        fputs("usage: windlass-shim unpack DIR overlay|plain\n", stderr);
        return 64;
    }
    is_overlay = !strcmp(argv[2], "overlay");
    strcpy(entry.path, ".");
    umask(0);
    CALL(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    CALL(close_range, 3, ~0u, 0);
    if (!(arena = reserve(ARENA)) || !(seen = reserve(SEEN * sizeof *seen)))
        return fail("cannot reserve memory");
    if (enter(argv[1]))
        return fail(syscall_name);
    if (drop_capabilities() || filter_calls())
        return fail(syscall_name);
    return unpack_all();
}
