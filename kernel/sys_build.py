"""Builds `windlass.kernel._sys`: the system calls that Python's `os` lacks. Thin: arguments in, -1 and errno out.

`_sys.pyi` types them; `mount.py`, `ns.py`, `devicecg.py` and `quota.py` turn errno into OSError. The module uses the
limited API (abi3), so one build serves every Python from 3.11 on. The GIL is released around each call.
"""

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef(
    """
    int setns(int fd, int nstype);
    int unshare(int flags);
    int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
    int umount2(const char *target, int flags);
    int sys_bpf(int command, void *attributes, unsigned int size);
    int sys_quotactl_fd(unsigned int fd, unsigned int command, unsigned int id, void *data);
    """
)
ffibuilder.set_source(
    "windlass.kernel._sys",
    """
    #include <sched.h> /* Python.h has asked for GNU names already */
    #include <sys/mount.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    static int sys_bpf(int command, void *attributes, unsigned int size)
    {
        return syscall(SYS_bpf, command, attributes, size);
    }

    #ifndef SYS_quotactl_fd /* a C library older than Linux 5.14; the number is the same everywhere */
    #define SYS_quotactl_fd 443
    #endif

    static int sys_quotactl_fd(unsigned int fd, unsigned int command, unsigned int id, void *data)
    {
        return syscall(SYS_quotactl_fd, fd, command, id, data);
    }
    """,
    py_limited_api=True,
)
