/* The sandbox that layers are unpacked in: were the reader taken over, it could write files in the layer, no more.
 *
 * Two processes: the worker reads the archive and has no way out; its parent (the broker) reads nothing but
 * descriptors of directories, and sets the one attribute that takes CAP_SYS_ADMIN, trusted.overlay.opaque.
 */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "sys.h"
#include "unpack.h"

#define BIT(cap) (1u << (cap))
static const unsigned KEPT = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) |
                             BIT(CAP_MKNOD) | BIT(CAP_SETFCAP);
/* The highest is number 31: all of them are in the first of the two words. */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__riscv)
#define ARCHITECTURE AUDIT_ARCH_RISCV64
#else
#error "which AUDIT_ARCH is this?"
#endif

static const unsigned short allowed[] = {
    /* input, output, the broker */
    SYS_read, SYS_write, SYS_writev, SYS_sendmsg, SYS_close,
    /* files of the layer */
    SYS_openat, SYS_openat2, SYS_mkdirat, SYS_mknodat, SYS_symlinkat, SYS_linkat, SYS_unlinkat, SYS_fchown,
    SYS_fchownat, SYS_fchmod, SYS_fchmodat, SYS_utimensat, SYS_fsetxattr, SYS_fstat, SYS_newfstatat, SYS_statx,
    SYS_getdents64, SYS_lseek, SYS_fcntl, SYS_syncfs,
    /* memory, and the end */
    SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_getrandom, SYS_rt_sigprocmask,
    SYS_rt_sigreturn, SYS_futex, SYS_exit, SYS_exit_group,
    /* what a copy takes besides, see COPYING */
    SYS_readlinkat, SYS_flistxattr, SYS_fgetxattr, SYS_sendfile,
};
enum { ALL = sizeof allowed / sizeof *allowed, COPYING = 4 };

static int load_filter(int copies)
{
    const int count = copies ? ALL : ALL - COPYING;
    struct sock_filter code[ALL + 6], *p = code;
    *p++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    *p++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    *p++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    *p++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < count; i++) /* x32's numbers have bit 30 set and match nothing */
        *p++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], count - i, 0);
    *p++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    *p++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {p - code, code};
    return CALL(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static int keep_capabilities(unsigned kept)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{kept, kept, 0}, {0}};
    for (int i = 0; i < 64; i++)
        if (!(i < 32 && kept >> i & 1) && CALL(prctl, PR_CAPBSET_DROP, i, 0, 0, 0) && errno != EINVAL)
            return -1; /* EINVAL: past the kernel's last capability */
    if (CALL(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) || CALL(capset, &head, data))
        return -1;
    return CALL(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int limit_resources(rlim_t descriptors)
{
    const struct {
        int resource;
        rlim_t limit;
    } limits[] = {
        {RLIMIT_CORE, 0},
        {RLIMIT_NOFILE, descriptors},
        {RLIMIT_AS, 1 << 28},  /* the list of directories: some million of them */
        {RLIMIT_CPU, 4 * 3600},
        {RLIMIT_FSIZE, (rlim_t)1 << 44},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit now;
        if (getrlimit(limits[i].resource, &now))
            return -1;
        if (now.rlim_max > limits[i].limit)
            now.rlim_max = limits[i].limit;
        now.rlim_cur = now.rlim_max;
        syscall_name = "setrlimit";
        if (setrlimit(limits[i].resource, &now))
            return -1;
    }
    return 0;
}

int confine_drop(int copies, unsigned descriptors)
{
    return limit_resources(descriptors) || keep_capabilities(KEPT) || load_filter(copies) ? -1 : 0;
}

int confine_enter(const char *path)
{
    struct mount_attr private = {.propagation = MS_PRIVATE};
    int root, place;
    if (CALL(unshare, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) ||
        CALL(mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof private))
        return -1;
    /* Opened in the new namespace: only its own mounts can be cloned in it. */
    place = CALL(openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    root = place < 0 ? -1 : sys_clone_tree(place, 0);
    if (root < 0 || sys_mount_setattr(root, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0) ||
        sys_move_mount(root, place) || CALL(fchdir, root) || CALL(pivot_root, ".", ".") ||
        CALL(umount2, ".", MNT_DETACH) || CALL(chdir, "/"))
        return -1;
    close(place);
    return root;
}

static int receive_directory(int socket)
{
    char byte;
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    int fd = -1;
    ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
        head->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(head), sizeof fd);
    return fd;
}

int confine_broker(int socket)
{
    int fd;
    if (keep_capabilities(BIT(CAP_SYS_ADMIN)))
        return -1;
    while ((fd = receive_directory(socket)) >= 0) {
        struct stat st;
        int error = 0;
        if (fstat(fd, &st) || !S_ISDIR(st.st_mode))
            error = ENOTDIR;
        else if (fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0))
            error = errno;
        close(fd);
        if (write(socket, &error, sizeof error) != sizeof error)
            break;
    }
    return 0;
}
