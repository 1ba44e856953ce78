"""System call numbers and argument widths of the machines that a seccomp filter can be compiled for.

The numbers are data of our own (`data/syscalls.json`, written by `scripts/seccomp-data` from kernel headers):
those of the machine that builds us are older than the kernels that we run on, and libseccomp's are older still.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

U32 = 0xFFFF_FFFF
U64 = 0xFFFF_FFFF_FFFF_FFFF

X32_BIT = 0x4000_0000
"""Set in the numbers of the x32 ABI, which shares x86-64's audit number."""

PRIVATE_NUMBERS = 0xF0000
"""32-bit ARM's own calls (cacheflush, set_tls) start here, far above the common ones."""


@dataclass(frozen=True, slots=True)
class Arch:
    """One table of system calls: AUDIT_ARCH_* as the filter sees it, names as profiles spell them."""

    name: str
    audit: int
    scmp: str
    bits: int


X86_64 = Arch("x86_64", 0xC000_003E, "SCMP_ARCH_X86_64", 64)
X86 = Arch("x86", 0x4000_0003, "SCMP_ARCH_X86", 32)
AARCH64 = Arch("aarch64", 0xC000_00B7, "SCMP_ARCH_AARCH64", 64)
ARM = Arch("arm", 0x4000_0028, "SCMP_ARCH_ARM", 32)

MACHINES: dict[str, tuple[Arch, ...]] = {"x86_64": (X86_64, X86), "aarch64": (AARCH64, ARM)}
"""Of each `uname -m`: its own table first, then what its kernel may run besides."""

GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
"""How Docker's profiles spell the machine in `includes.arches`."""

SCMP_ARCHES = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        *("NATIVE", "X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64"),
        *("MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64", "LOONGARCH64"),
        *("M68K", "SH", "SHEB"),
    )
)


@cache
def numbers(arch: str) -> dict[str, int]:
    """Return the number of each system call of an architecture, by name."""
    tables: dict[str, dict[str, int]] = json.loads(files(__package__).joinpath("data/syscalls.json").read_bytes())
    return tables[arch]


# The kernel takes these arguments as int, unsigned int, pid_t, or umode_t, and drops what stands above
# (SYSCALL_DEFINE in Linux 6.18), whereas a filter sees 64 bits: socket(1 << 32 | AF_ALG) passes a rule
# that refuses AF_ALG, and makes an AF_ALG socket. Widths are in bits, by argument; what is not here is 64 wide:
# clone's and unshare's flags, pointers, sizes.
_INT = {
    "accept": "0",
    "accept4": "0 3",
    "arch_prctl": "0",
    "bind": "0 2",
    "bpf": "0 2",
    "clock_adjtime": "0",
    "clock_gettime": "0",
    "clock_settime": "0",
    "close_range": "0 1 2",
    "connect": "0 2",
    "dup3": "0 1 2",
    "epoll_create1": "0",
    "epoll_ctl": "0 1 2",
    "eventfd2": "0 1",
    "execveat": "0 4",
    "faccessat2": "0 2 3",
    "fanotify_init": "0 1",
    "fanotify_mark": "0 1 3",
    "fchmod": "0",
    "fchmodat": "0",
    "fchmodat2": "0 3",
    "fcntl": "0 1",
    "fcntl64": "0 1",
    "flock": "0 1",
    "fsconfig": "0 1 4",
    "fsmount": "0 1 2",
    "fsopen": "1",
    "fspick": "0 2",
    "futex": "1 2 5",
    "getpriority": "0 1",
    "getrandom": "2",
    "getsockopt": "0 1 2",
    "inotify_init1": "0",
    "io_uring_enter": "0 1 2 3",
    "io_uring_register": "0 1 3",
    "io_uring_setup": "0",
    "ioctl": "0 1",
    "ioprio_set": "0 1 2",
    "ipc": "0",
    "keyctl": "0",
    "kill": "0 1",
    "listen": "0 1",
    "lseek": "0 2",
    "madvise": "2",
    "mbind": "5",
    "membarrier": "0 1 2",
    "memfd_create": "1",
    "memfd_secret": "0",
    "mknod": "2",
    "mknodat": "0 3",
    "mlock2": "2",
    "mlockall": "0",
    "modify_ldt": "0",
    "mount_setattr": "0 2",
    "move_mount": "0 2 4",
    "msgctl": "0 1",
    "name_to_handle_at": "0 4",
    "open": "1",
    "open_by_handle_at": "0 2",
    "open_tree": "0 2",
    "openat": "0 2",
    "openat2": "0",
    "perf_event_open": "1 2 3",
    "personality": "0",
    "pidfd_getfd": "0 1 2",
    "pidfd_open": "0 1",
    "pidfd_send_signal": "0 1 3",
    "pipe2": "1",
    "prctl": "0",
    "prlimit64": "0 1",
    "process_madvise": "0 3 4",
    "quotactl": "0 2",
    "quotactl_fd": "0 1 2",
    "reboot": "0 1 2",
    "recvfrom": "0 3",
    "recvmsg": "0 2",
    "renameat2": "0 2 4",
    "rt_sigqueueinfo": "0 1",
    "rt_tgsigqueueinfo": "0 1 2",
    "sched_setattr": "0 2",
    "sched_setscheduler": "0 1",
    "seccomp": "0 1",
    "semctl": "0 1 2",
    "sendmsg": "0 2",
    "sendto": "0 3 5",
    "setfsuid": "0",
    "setgid": "0",
    "setns": "0 1",
    "setpgid": "0 1",
    "setpriority": "0 1 2",
    "setresgid": "0 1 2",
    "setresuid": "0 1 2",
    "setsockopt": "0 1 2 4",
    "setuid": "0",
    "shmctl": "0 1",
    "shmget": "0 2",
    "signalfd4": "0 3",
    "socket": "0 1 2",
    "socketcall": "0",
    "socketpair": "0 1 2",
    "splice": "0 2 5",
    "statx": "0 2 3",
    "syslog": "0 2",
    "tgkill": "0 1 2",
    "timer_create": "0",
    "timerfd_create": "0 1",
    "tkill": "0 1",
    "umount2": "1",
    "unlinkat": "0 2",
    "userfaultfd": "0",
    "waitid": "0 1 3",
}
_MODE = {
    "chmod": 1,
    "creat": 1,
    "fchmod": 1,
    "fchmodat": 2,
    "fchmodat2": 2,
    "mkdir": 1,
    "mkdirat": 2,
    "mknod": 1,
    "mknodat": 2,
    "open": 2,
    "openat": 3,
}


def argument_mask(arch: Arch, syscall: str, index: int) -> int:
    """Return the bits of an argument that the kernel looks at; a 32-bit caller's has no more than 32."""
    if _MODE.get(syscall) == index:
        return 0xFFFF
    if arch.bits == 32 or str(index) in _INT.get(syscall, ""):
        return U32
    return U64
