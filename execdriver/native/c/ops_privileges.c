/* Who the process is and what it may do.  Raw calls: libc's setxid wrappers signal every thread there is.
 *
 * The order in the list is the kernel's: bounding set, groups, ids (capabilities kept), seccomp while
 * CAP_SYS_ADMIN is still effective (or after no_new_privs), and the final capabilities last.
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "child.h"
#include "sys.h"

static int set_capabilities(uint64_t permitted, uint64_t inheritable)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {
        {permitted, permitted, inheritable},
        {permitted >> 32, permitted >> 32, inheritable >> 32},
    };
    return CALL(capset, &head, data);
}

static int permitted_capabilities(uint64_t *permitted)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    int result = CALL(capget, &head, data);
    *permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    return result;
}

int op_bounding(struct child *child, const struct op *op)
{
    (void)child;
    for (int i = 0; i < 64; i++)
        if (!(op->a >> i & 1) && CALL(prctl, PR_CAPBSET_DROP, i, 0, 0, 0))
            return errno == EINVAL ? 0 : -1; /* past the kernel's last capability */
    return 0;
}

int op_groups(struct child *child, const struct op *op)
{
    (void)child;
    return CALL(setgroups, (size_t)op->a, op->payload);
}

int op_ids(struct child *child, const struct op *op)
{
    uint64_t permitted;
    uid_t uid = op->a, gid = op->b;
    (void)child;
    if (CALL(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0) || CALL(setresgid, gid, gid, gid) || CALL(setresuid, uid, uid, uid))
        return -1;
    /* A new user may be dumpable again, as fs.suid_dumpable says: not before the program runs (CVE-2016-9962). */
    if (CALL(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0))
        return -1;
    /* KEEPCAPS keeps the permitted set only: make it effective again, for the ops that follow. */
    return permitted_capabilities(&permitted) ? -1 : set_capabilities(permitted, 0);
}

int op_no_new_privs(struct child *child, const struct op *op)
{
    (void)child, (void)op;
    return CALL(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int op_seccomp(struct child *child, const struct op *op)
{
    (void)child;
    struct sock_fprog program = {op->b, (struct sock_filter *)op->payload};
    return CALL(seccomp, SECCOMP_SET_MODE_FILTER, (unsigned)op->a, &program);
}

int op_caps(struct child *child, const struct op *op)
{
    (void)child;
    if (set_capabilities(op->a, op->b))
        return -1;
    for (int i = 0; i < 64; i++)
        if (op->b >> i & 1 && CALL(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0))
            return -1;
    return 0;
}
