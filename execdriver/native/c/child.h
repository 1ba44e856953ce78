/* Between clone and exec: the interpreter of the second half of an op list.
 *
 * Only system calls and the stack from here on: no allocation, no stdio.
 */
#ifndef WINDLASS_CHILD_H
#define WINDLASS_CHILD_H
#include <stdbool.h>
#include <sys/types.h>

#include "oplist.h"

/* What the child, or an exec's middle process, tells the shim, each over a socket of its own; EOF of the child's: the
 * program runs. */
enum status_kind { STATUS_FAILED = 1, STATUS_TERMINAL = 2, STATUS_PID = 3 };
struct status {
    int kind, error, index, pid;
    char call[24];
};

/* The child's own view while it interprets ops. */
struct child {
    int status;       /* socket to the shim */
    int root;         /* the root file system, once ROOT or JOIN has made it; -1 before */
    int null;         /* the host's /dev/null, O_PATH and verified, opened before any mount of ours; -1 in an exec */
    int empty;        /* the first empty tmpfs that MASK made: the next ones are its clones */
    int slots[SLOTS]; /* as the shim's */
    bool rooted;      /* "the root" is known */
    bool inside;      /* by PIVOT or JOIN: the host's paths are out of reach */
    bool joined;      /* this is an exec */
    bool umask_set;
    int rows, columns;
    uid_t terminal_owner;
};

/* Interpret ops from `op` on. Returns only on failure, with errno and *index, counted up from its value. */
void child_run(struct child *child, const struct oplist *list, const struct op *op, int *index);

/* One op: 0, or -1 with errno and syscall_name. */
typedef int op_function(struct child *child, const struct op *op);

op_function op_write, op_setns, op_unshare;                                       /* ops_process.c */
op_function op_hostname, op_domainname, op_loopback, op_rlimit, op_keyring, op_umask, op_oom_score, op_sysctl;
op_function op_bounding, op_groups, op_ids, op_no_new_privs, op_seccomp, op_caps; /* ops_privileges.c */
op_function op_private, op_root, op_mount, op_bind, op_mask, op_readonly, op_readonly_root, op_pivot; /* ops_mount.c */
op_function op_mkdir, op_mknod, op_symlink, op_touch, op_device;                  /* ops_files.c */
op_function op_console, op_chdir, op_exec;                                        /* ops_exec.c */

void child_close_slots(struct child *child);

/* Close whatever the child holds besides 0, 1, 2 and the status socket: no path of the image may lead there. */
void child_close_all(struct child *child);

/* A new, detached mount of a file system. Returns its descriptor, or -1 with errno. */
int mount_new(const char *type, const char *source, const char *options, uint64_t attributes);

#endif
