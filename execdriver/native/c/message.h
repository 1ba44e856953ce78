/* The contract between the daemon (Python) and windlass-shim (C): the op list and the control records.
 *
 * execdriver/native/message.py holds the same numbers; tests/execdriver/test_message.py compares the two
 * files line by line, so a number is changed in both or the suite is red.
 *
 * START.  The daemon opens a SOCK_SEQPACKET pair, queues one ATTACH record for each client that is waiting
 * already and then GO, writes the op list to a sealed memfd, and posix_spawns
 *
 *     windlass-shim run CONTAINER-ID     0,1,2 = /dev/null   3 = op list   4 = its end of the pair
 *
 * The shim reads records until GO, interprets the list up to and including CLONE in its own process, and the
 * child interprets the rest, which ends in EXEC.  It answers STARTED, or FAILED with the errno and the index of
 * the op, and has then undone what it did.  Nothing before GO is answered.  Later daemons reach it through
 * RUNDIR/ctl.sock, with the same records.
 *
 * END.  When the init has ended, its last output goes to the log and to the sessions, then the file `exit` appears
 * in RUNDIR ("code signal time_ns ooms\n", by rename), ctl.sock goes away, and EXIT goes to every connection.  The
 * shim leaves once every session has its last byte; a daemon that comes in between finds `exit` and no socket.
 *
 * OP LIST.  Little endian.  A header, then ops; each op is a multiple of 8 bytes long.  An op's payload is `nstr`
 * strings, each ended by NUL, or raw bytes when nstr is 0.  Whoever reads it checks every bound: the list comes
 * from root, but a torn or foreign list must fail with EBADMSG, never run half understood.
 *
 * SLOTS.  Ops that open something put the file descriptor into a numbered slot (0..127); later ops name the slot.
 * Slots are real file descriptors of the shim, CLOEXEC, and are closed in the child before any path of the image
 * is resolved (CVE-2024-21626).
 */
#ifndef WINDLASS_MESSAGE_H
#define WINDLASS_MESSAGE_H
#include <stdint.h>

#define OPLIST_MAGIC 0x534c4457u /* "WDLS" */
#define OPLIST_VERSION 1
#define OPLIST_MAX (1u << 20)
#define SLOTS 128 /* a container may have many volumes, and each needs one */

struct oplist_header {
    uint32_t magic, version;
    uint32_t total; /* bytes, header included */
    uint32_t nops;
};

struct op {
    uint16_t code, nstr;
    uint32_t len; /* bytes of payload, a multiple of 8, padding included */
    uint64_t a, b, c;
    char payload[];
};

enum op_code {
    /* Interpreted by the shim, before the child exists. */
    OP_RUNDIR = 1,    /* path: the container's folder on the exec root; becomes the directory of exit, ctl.sock, oom */
    OP_LOG = 2,       /* path; a = mode (LOG_*), b = max size in bytes (0: no rotation), c = max files */
    OP_STDIO = 3,     /* a = flags (STDIO_*), b = rows << 16 | columns, c = uid that owns the terminal */
    OP_OVERLAY = 4,   /* upper, work, lower 1 (topmost) .. n; a = slot, b = mount attributes: fsopen, fsconfig, fsmount */
    OP_OPEN_TREE = 5, /* path; a = slot, b = TREE_*, c = MOUNT_ATTR_* set on the clone, which is private by default */
    OP_OPEN_CGROUP = 6, /* path; a = slot: a cgroup v2 directory, for CLONE_INTO_CGROUP */
    OP_OOM_V1 = 7,    /* path of a v1 memory cgroup: eventfd on memory.oom_control */
    OP_OOM_V2 = 8,    /* path of a v2 cgroup: inotify on memory.events */
    OP_CLONE = 9,     /* a = CLONE_NEW* flags, b = slot of the cgroup or NONE; the border: the child runs what follows */

    OP_OPEN_SHM = 10, /* path of a mount namespace; a = slot: a clone of the tmpfs that is on /dev/shm there */
    OP_USERNS = 11,   /* path of a user namespace with its maps written, that the container is born in.  After it OVERLAY
                         takes c = length of a folder's path that all of its paths begin with, and maps the owners of
                         what is there; the ops WRITE come before CLONE */
    OP_OPEN_NS = 12,  /* path of a namespace; a = slot, for SETNS: for those who cannot resolve the path any more */

    /* An op list for EXEC records: OPEN_CGROUP by the shim, WRITE (v1 `tasks`) and JOIN by the middle process, the
     * rest by the exec'd process, which sees the root of the container as "the root". */
    OP_JOIN = 16, /* a = CLONE_NEW* flags: setns(init's pidfd), then clone3(CLONE_PARENT); b as in CLONE */

    /* Interpreted by the child, in this order of kinds; see execdriver/native/spec.py for why. */
    OP_WRITE = 32,    /* path, text; a = 1: failure is ignored.  Host paths, before PIVOT only */
    OP_SETNS = 33,    /* path; a = CLONE_NEW* kind, b = slot of OPEN_NS + 1, or 0 for the path.  CLONE_NEWPID alone comes before CLONE, by the shim: a process never
                         changes its own pid namespace, only that of its children to come */
    OP_UNSHARE = 34,  /* a = CLONE_NEW* flags */
    OP_PRIVATE = 35,  /* make every mount of the new namespace a slave: nothing propagates back to the host */
    OP_ROOT = 36,     /* path: where the root file system goes; a = slot with the mount, moved there; becomes "the root" */
    OP_MOUNT = 37,    /* target, file system type, source, options text; a = MS_* flags.  With MS_REMOUNT the
                         flags are added to the mount that is there.  b = PLACE_*: the target is a user's */
    OP_BIND = 38,     /* target [, subpath: what is moved there instead, never outside of the mount]; a = slot with a
                         detached mount, moved there; b = PLACE_* */
    OP_MKDIR = 39,    /* path; a = mode.  Parents are made (0755), an existing directory is kept, the leaf is never followed */
    OP_MKNOD = 40,    /* path; a = mode with S_IFCHR or S_IFBLK, b = device number, c = uid << 32 | gid */
    OP_SYMLINK = 41,  /* target text, path */
    OP_TOUCH = 42,    /* path; a = mode: an empty regular file, as a place to bind on; parents and existing as MKDIR */
    OP_DEVICE = 43,   /* host path, target path: bind a host device node; the target is made when missing */
    OP_MASK = 44,     /* path: an empty read-only tmpfs over a directory, the null device over a file; missing is fine */
    OP_READONLY = 45, /* path: bound on itself read-only, with what is below; missing is fine */
    OP_READONLY_ROOT = 46, /* the root mount becomes read-only, without what is mounted on it */
    OP_PIVOT = 47,    /* pivot_root to the root; the old one is gone afterwards */
    OP_SYSCTL = 48,   /* name with slashes below /proc/sys, value; through a private procfs handle */
    OP_CONSOLE = 49,  /* terminal by TIOCGPTPEER, bound on /dev/console, made controlling (with STDIO_TTY) */
    OP_HOSTNAME = 50, /* text */
    OP_DOMAINNAME = 51, /* text */
    OP_LOOPBACK = 52, /* lo up */
    OP_RLIMIT = 53,   /* a = RLIMIT_*, b = soft, c = hard.  EPERM on raising is reported as FAILED */
    OP_KEYRING = 54,  /* name: a fresh session keyring; ENOSYS and EDQUOT are ignored */
    OP_UMASK = 55,    /* a = mask */
    OP_OOM_SCORE = 56, /* text: oom_score_adj; lowering without CAP_SYS_RESOURCE is ignored */
    OP_BOUNDING = 57, /* a = mask of capabilities to keep */
    OP_GROUPS = 58,   /* raw: u32 gids; a = how many */
    OP_IDS = 59,      /* a = uid, b = gid; capabilities are kept until CAPS */
    OP_NO_NEW_PRIVS = 60,
    OP_SECCOMP = 61,  /* raw: struct sock_filter[]; a = SECCOMP_FILTER_FLAG_*, b = how many */
    OP_CAPS = 62,     /* a = permitted and effective, b = inheritable and ambient */
    OP_CHDIR = 63,    /* path; b = 1: created as the user when missing; refused when it leads out of the root */
    OP_EXEC = 64,     /* argv .. env ..; a = argc; PATH of env is searched inside the root */
};

#define NONE 0xffffffffu

enum { TREE_RECURSIVE = 1, TREE_TOP = 2, TREE_SLAVE = 4, TREE_SHARED = 8, TREE_MAPPED = 16 }; /* TOP: attributes on the top mount alone;
    SHARED: the clone passes mounts on as its source does; MAPPED: with USERNS, owners are mapped into it */
enum { PLACE_MAKE = 1, PLACE_PROC = 2 }; /* MAKE: made when missing, a directory or a file as the mount is, and not on
    procfs but with PROC; a new tmpfs gets the mode of the directory that it covers */
enum { LOG_NONE = 0, LOG_JSON = 1 };
enum { STDIO_TTY = 1, STDIO_STDIN = 2, STDIO_STDIN_ONCE = 4 };

/* Control records: one SEQPACKET datagram each, always this size, with up to 4 descriptors beside it. */
struct record {
    uint16_t type, proc; /* proc: 0 is the container's init; an exec has the number that its EXEC record gave it */
    uint32_t a;
    uint64_t b;
    uint8_t data[104];
};

#define PROTOCOL_VERSION 1

enum record_type {
    /* daemon -> shim */
    REC_GO = 1,
    REC_ATTACH = 2,      /* fd 0: the client, a stream socket; fd 1 (may be missing): a memfd with stdin that came
                            early; a = ATTACH_* flags, b = session number, data = detach keys (terminals only),
                            NUL-ended.  Answered by OK or ERROR, as all of these */
    REC_STDIN_CLOSE = 3,
    REC_RESIZE = 4,      /* a = rows << 16 | columns */
    REC_SIGNAL = 5,      /* a = signal, sent through the pidfd */
    REC_STATUS = 6,      /* answered by STATE, or ERROR ESRCH for an exec that is not there (any more) */
    REC_EXEC = 7,        /* fd 0: op list, fd 1 (may be missing): the client, fd 2 (may be missing): early stdin;
                            proc = its number, 1..65535; a = STDIO_* | ATTACH_* << 8, b = session number << 32 |
                            rows << 16 | columns, data = detach keys.  Answered by STARTED or FAILED */
    REC_ROTATE = 8,      /* rotate the log now */

    /* shim -> daemon */
    REC_STARTED = 32,    /* a = pid, fd: its pidfd */
    REC_FAILED = 33,     /* a = errno, b = index of the op or NONE, data = the system call's name */
    REC_EXIT = 34,       /* a = exit code (128 + signal when killed), b = CLOCK_REALTIME in ns, data[0] = signal */
    REC_OOM = 35,        /* a = how often so far */
    REC_STATE = 36,      /* a = pid, b = PROTOCOL_VERSION, data: u32 started (0 or 1), u32 dropped log lines, u32 ooms;
                            fd: the process's pidfd */
    REC_DETACHED = 37,   /* b = session number, a = 1: by the detach keys, 0: the client went, 2: the process's output ended */
    REC_ERROR = 38,      /* a = errno, b = the type of the record that it answers */
    REC_OK = 39,         /* b = the type of the record that it answers */
};

enum { ATTACH_STDIN = 1, ATTACH_STDOUT = 2, ATTACH_STDERR = 4, ATTACH_RAW = 8 }; /* RAW: no 8-byte frame headers */

#endif
