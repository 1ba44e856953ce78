/* Makes the system calls named by its arguments, and prints "name errno" for each: 0 when the kernel let it through
 * to where it found fault with the arguments, or did it. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char zeros[256];

static const struct {
    const char *name;
    long number, a, b, c;
} calls[] = {
    {"unshare_user", SYS_unshare, 0x10000000, 0, 0},
    {"mount", SYS_mount, (long)"none", (long)"/tmp", (long)"tmpfs"},
    {"keyctl", SYS_keyctl, 0, -3, 1},
    {"bpf", SYS_bpf, 0, (long)zeros, 16},
    {"perf", SYS_perf_event_open, (long)zeros, 0, -1},
    {"io_uring", 425, 1, (long)zeros, 0},
    {"vsock", SYS_socket, 40, 1, 0},
    {"alg", SYS_socket, 38, 5, 0},
    {"socket", SYS_socket, 2, 1, 0},
    {"userfaultfd", 323, 0, 0, 0},
    {"kexec", SYS_kexec_load, 0, 0, 0},
    {"settime", SYS_clock_settime, 0, (long)zeros, 0},
    {"open_by_handle", SYS_open_by_handle_at, -1, (long)zeros, 0},
    {"clone3", 435, 0, 0, 0},
    {"ptrace", SYS_ptrace, 0, 0, 0},
    {"personality", SYS_personality, 0, 0, 0},
};

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        for (size_t k = 0; k < sizeof calls / sizeof *calls; k++)
            if (!strcmp(argv[i], calls[k].name)) {
                errno = 0;
                long result = syscall(calls[k].number, calls[k].a, calls[k].b, calls[k].c, 0, 0);
                printf("%s %d\n", argv[i], result < 0 ? errno : 0);
            }
    return 0;
}
