/* The last steps: terminal, working directory, program. */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "child.h"
#include "paths.h"
#include "sys.h"

static bool is_device(int fd, unsigned major, unsigned minor)
{
    struct stat st;
    return !fstat(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(major, minor);
}

/* The container's own ptmx: really one, and really of a devpts, whatever the image has put there. */
static int open_master(struct child *child)
{
    struct statfs fs;
    int fd = path_open(child->root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0 && (fstatfs(fd, &fs) || fs.f_type != DEVPTS_SUPER_MAGIC || !is_device(fd, 5, 2))) {
        close(fd);
        errno = ENODEV;
        return -1;
    }
    return fd;
}

static int open_slave(struct child *child, int master)
{
    int unlock = 0;
    struct winsize size = {child->rows, child->columns, 0, 0};
    if (CALL(ioctl, master, TIOCSPTLCK, &unlock) || CALL(ioctl, master, TIOCSWINSZ, &size))
        return -1;
    /* No name is looked up: /dev/pts/N may be anything by now (CVE-2025-52565). */
    int slave = CALL(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave >= 0 && CALL(fchown, slave, child->terminal_owner, -1)) {
        close_keeping_errno(slave);
        return -1;
    }
    return slave;
}

static int bind_console(struct child *child, int slave)
{
    if (path_touch(child->root, "/dev/console", 0620))
        return -1;
    int place = path_open(child->root, "/dev/console", O_PATH);
    int copy = place < 0 ? -1 : sys_clone_tree(slave, 0);
    int result = copy < 0 ? -1 : sys_move_mount(copy, place);
    close_keeping_errno(copy);
    close_keeping_errno(place);
    return result;
}

static int send_master(struct child *child, int master)
{
    struct status status = {.kind = STATUS_TERMINAL};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {&status, sizeof status};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
    memcpy(CMSG_DATA(&control.head), &master, sizeof master);
    syscall_name = "sendmsg";
    return sendmsg(child->status, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

int op_console(struct child *child, const struct op *op)
{
    (void)op;
    int master = open_master(child);
    int slave = master < 0 ? -1 : open_slave(child, master);
    int result = slave < 0 || (!child->joined && bind_console(child, slave)) ? -1 : send_master(child, master);
    for (int fd = 0; !result && fd < 3; fd++)
        result = CALL(dup3, slave, fd, 0) < 0 ? -1 : 0;
    if (!result)
        result = CALL(ioctl, 0, TIOCSCTTY, 0); /* the child is a session's leader already */
    close_keeping_errno(slave);
    close_keeping_errno(master);
    return result;
}

/* Mounts may have been passed by a link that a process of the container has made: the way up must end in "/". */
static int is_reachable(void)
{
    char cwd[PATH_MAX];
    int n = CALL(getcwd, cwd, sizeof cwd);
    if (n < 0)
        return errno == ERANGE; /* deeper than a path can say, but reachable */
    errno = EXDEV;
    return cwd[0] == '/'; /* otherwise "(unreachable)..." */
}

static int make_directory(const char *path)
{
    int root = CALL(openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int result = root < 0 ? -1 : path_mkdir(root, path, 0755);
    close_keeping_errno(root);
    return result;
}

int op_chdir(struct child *child, const struct op *op)
{
    const char *path = op_string(op, 0);
    child_close_all(child);
    int result = CALL(chdir, path);
    if (result && errno == ENOENT && op->b && !make_directory(path))
        result = CALL(chdir, path);
    return result || is_reachable() ? result : -1;
}

/* The shim's /dev/null is the host's: through /proc/self/fd/0 it could be chmodded. Take the container's. */
static void take_own_null(void)
{
    int null = -1;
    for (int fd = 0; fd < 3; fd++) {
        if (!is_device(fd, 1, 3))
            continue;
        if (null < 0)
            null = open("/dev/null", O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
        if (null < 0 || !is_device(null, 1, 3))
            break;
        CALL(dup3, null, fd, 0);
    }
    close_keeping_errno(null);
}

/* As Go's LookPath, which Docker uses: what is no regular file with an x bit is passed over. */
static bool is_program(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode) && st.st_mode & 0111;
}

static void search(const char *path, char **argv, char **env)
{
    char file[PATH_MAX];
    int error = ENOENT;
    size_t name = strlen(argv[0]);
    for (const char *end; *path; path = *end ? end + 1 : end) {
        end = path + strcspn(path, ":");
        size_t n = end - path;
        if (n + name + 2 > sizeof file)
            continue;
        memcpy(file, path, n);
        file[n] = '/';
        memcpy(file + n + 1, argv[0], name + 1);
        CALL(execve, n ? file : argv[0], argv, env);
        if (errno != ENOENT && errno != ENOTDIR && (errno != EACCES || is_program(file)))
            error = errno;
    }
    errno = error;
}

int op_exec(struct child *child, const struct op *op)
{
    char *pointers[op->nstr + 2];
    char **argv = pointers, **env = pointers + op->a + 1, **next = pointers;
    const char *path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *s = op->payload;
    child_close_all(child);
    for (unsigned i = 0; i < op->nstr; i++, s += strlen(s) + 1) {
        if (i == op->a)
            *next++ = NULL;
        if (i >= op->a && !strncmp(s, "PATH=", 5))
            path = s + 5;
        *next++ = (char *)s;
    }
    if (op->nstr == op->a)
        *next++ = NULL;
    *next = NULL;
    take_own_null();
    if (!child->umask_set)
        umask(022);
    syscall_name = "execve";
    if (!*argv[0])
        errno = ENOENT;
    else if (strchr(argv[0], '/'))
        CALL(execve, argv[0], argv, env);
    else
        search(path, argv, env);
    syscall_name = "execve";
    return -1;
}
