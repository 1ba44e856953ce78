#define _GNU_SOURCE
#include "child.h"

#include <sys/stat.h>

#include "sys.h"

static op_function *const functions[] = {
    [OP_WRITE] = op_write,
    [OP_SETNS] = op_setns,
    [OP_UNSHARE] = op_unshare,
    [OP_PRIVATE] = op_private,
    [OP_ROOT] = op_root,
    [OP_MOUNT] = op_mount,
    [OP_BIND] = op_bind,
    [OP_MKDIR] = op_mkdir,
    [OP_MKNOD] = op_mknod,
    [OP_SYMLINK] = op_symlink,
    [OP_TOUCH] = op_touch,
    [OP_DEVICE] = op_device,
    [OP_MASK] = op_mask,
    [OP_READONLY] = op_readonly,
    [OP_READONLY_ROOT] = op_readonly_root,
    [OP_PIVOT] = op_pivot,
    [OP_SYSCTL] = op_sysctl,
    [OP_CONSOLE] = op_console,
    [OP_HOSTNAME] = op_hostname,
    [OP_DOMAINNAME] = op_domainname,
    [OP_LOOPBACK] = op_loopback,
    [OP_RLIMIT] = op_rlimit,
    [OP_KEYRING] = op_keyring,
    [OP_UMASK] = op_umask,
    [OP_OOM_SCORE] = op_oom_score,
    [OP_BOUNDING] = op_bounding,
    [OP_GROUPS] = op_groups,
    [OP_IDS] = op_ids,
    [OP_NO_NEW_PRIVS] = op_no_new_privs,
    [OP_SECCOMP] = op_seccomp,
    [OP_CAPS] = op_caps,
    [OP_CHDIR] = op_chdir,
    [OP_EXEC] = op_exec,
};

/* Ops that resolve paths of the host, and those that resolve paths in the container's root. */
static bool is_host_op(unsigned code)
{
    return code == OP_WRITE || code == OP_SETNS || code == OP_ROOT;
}

static bool is_root_op(unsigned code)
{
    return (code >= OP_MOUNT && code <= OP_PIVOT) || code == OP_CONSOLE;
}

static bool is_inner_op(unsigned code)
{
    return code == OP_CHDIR || code == OP_EXEC;
}

/* A list in the wrong order must not resolve a container's path on the host, or the other way round. */
static bool is_in_order(const struct child *child, unsigned code)
{
    if (is_host_op(code))
        return !child->inside;
    if (is_inner_op(code))
        return child->inside;
    return !is_root_op(code) || child->rooted;
}

void child_run(struct child *child, const struct oplist *list, const struct op *op, int *index)
{
    umask(0); /* modes in ops are exact */
    for (; op; op = oplist_next(list, op), ++*index) {
        op_function *function = op->code < sizeof functions / sizeof *functions ? functions[op->code] : NULL;
        syscall_name = "oplist";
        errno = EBADMSG;
        if (!function || !is_in_order(child, op->code))
            return;
        if (function(child, op))
            return;
    }
    errno = EBADMSG; /* it does not end in EXEC */
}

void child_close_slots(struct child *child)
{
    for (int i = 0; i < SLOTS; i++) {
        close_keeping_errno(child->slots[i]);
        child->slots[i] = -1;
    }
}

void child_close_all(struct child *child)
{
    int *fds[] = {&child->root, &child->null, &child->empty};
    child_close_slots(child);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        close_keeping_errno(*fds[i]);
        *fds[i] = -1;
    }
}
