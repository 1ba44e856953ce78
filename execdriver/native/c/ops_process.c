/* Namespaces, names, limits: what is the process's own and needs no path of the container. */
#define _GNU_SOURCE
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "child.h"
#include "sys.h"

enum { KEYCTL_JOIN_SESSION_KEYRING = 1 }; /* <linux/keyctl.h> */

static int write_all(int fd, const char *text)
{
    syscall_name = "write";
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (n >= 0 && n != (ssize_t)strlen(text))
        return errno = EIO, -1;
    return n < 0 ? -1 : 0;
}

int op_write(struct child *child, const struct op *op)
{
    (void)child;
    int fd = CALL(openat, AT_FDCWD, op_string(op, 0), O_WRONLY | O_CLOEXEC);
    int result = fd < 0 ? -1 : write_all(fd, op_string(op, 1));
    close_keeping_errno(fd);
    return op->a ? 0 : result;
}

int op_setns(struct child *child, const struct op *op)
{
    if (op->b)
        return CALL(setns, child->slots[op->b - 1], (int)op->a);
    int fd = CALL(openat, AT_FDCWD, op_string(op, 0), O_RDONLY | O_CLOEXEC);
    int result = fd < 0 ? -1 : CALL(setns, fd, (int)op->a);
    close_keeping_errno(fd);
    return result;
}

int op_unshare(struct child *child, const struct op *op)
{
    (void)child;
    return CALL(unshare, (int)op->a);
}

/* Write a file of procfs through a mount that nobody else can see, so that no mount or link of an image can
 * turn the write into another one (CVE-2025-52881, CVE-2019-19921). */
static int write_proc(const char *folder, const char *path, const char *text)
{
    const uint64_t strict = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    int proc = mount_new("proc", "proc", "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (proc < 0)
        return -1;
    int at = sys_openat2(proc, folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, strict);
    int fd = at < 0 ? -1 : sys_openat2(at, path, O_WRONLY | O_CLOEXEC, 0, strict);
    int result = fd < 0 ? -1 : write_all(fd, text);
    close_keeping_errno(fd);
    close_keeping_errno(at);
    close_keeping_errno(proc);
    return result;
}

int op_sysctl(struct child *child, const struct op *op)
{
    (void)child;
    return write_proc("sys", op_string(op, 0), op_string(op, 1));
}

int op_oom_score(struct child *child, const struct op *op)
{
    (void)child;
    int result = write_proc("self", "oom_score_adj", op_string(op, 0));
    return result && (errno == EACCES || errno == EPERM) ? 0 : result;
}

int op_hostname(struct child *child, const struct op *op)
{
    (void)child;
    return CALL(sethostname, op_string(op, 0), strlen(op_string(op, 0)));
}

int op_domainname(struct child *child, const struct op *op)
{
    (void)child;
    return CALL(setdomainname, op_string(op, 0), strlen(op_string(op, 0)));
}

int op_loopback(struct child *child, const struct op *op)
{
    (void)child, (void)op;
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = CALL(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int result = fd < 0 ? -1 : CALL(ioctl, fd, SIOCSIFFLAGS, &request);
    close_keeping_errno(fd);
    return result;
}

int op_rlimit(struct child *child, const struct op *op)
{
    (void)child;
    uint64_t limit[2] = {op->b, op->c}; /* struct rlimit64 */
    return CALL(prlimit64, 0, (int)op->a, limit, NULL);
}

int op_keyring(struct child *child, const struct op *op)
{
    (void)child;
    int result = CALL(keyctl, KEYCTL_JOIN_SESSION_KEYRING, op_string(op, 0)) < 0 ? -1 : 0;
    return result && (errno == ENOSYS || errno == EDQUOT) ? 0 : result;
}

int op_umask(struct child *child, const struct op *op)
{
    child->umask_set = true;
    umask(op->a);
    return 0;
}
