/* From the shim to the program: clone, and for an exec the way into the container.
 *
 * The child is a fork of a tiny process: it has a copy of the op list and of every descriptor.  Those it does not need
 * are really closed before anything else happens: between clone and exec CLOEXEC protects nothing (CVE-2024-21626).
 * It is not dumpable, as the shim is not, until it has executed its program (CVE-2016-9962).
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "child.h"
#include "shim.h"
#include "sys.h"
#include "userns.h"

struct plan {
    struct process *process;
    const struct oplist *list;
    const struct op *op; /* the next to interpret */
    int index;           /* its place in the list */
    uint64_t namespaces;
    int cgroup;          /* descriptor or -1 */
    int stdio[3];        /* -1: the shim's /dev/null */
    int status;          /* the child's end */
    int middle;          /* the middle process's: on one socket the child could be heard before the one that made it */
};

static pid_t clone_process(uint64_t flags, int cgroup, int *pidfd, int exit_signal)
{
    struct clone_args args = {.flags = flags, .pidfd = (uintptr_t)pidfd, .exit_signal = exit_signal};
    if (pidfd)
        args.flags |= CLONE_PIDFD;
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup;
    }
    return CALL(clone3, &args, sizeof args);
}

/* Close everything from 3 up but what is kept; entries may be -1. */
static void close_others(int *keep, int count)
{
    unsigned next = 3;
    for (;;) {
        int least = -1;
        for (int i = 0; i < count; i++)
            if (keep[i] >= (int)next && (least < 0 || keep[i] < least))
                least = keep[i];
        CALL(close_range, next, least < 0 ? ~0u : (unsigned)least - 1, 0);
        if (least < 0)
            return;
        next = least + 1;
        for (int i = 0; i < count; i++)
            if (keep[i] == (int)next)
                next++, i = -1;
    }
}

static void reset_signals(void)
{
    /* Raw: libc hides signals of its own from signal(2), and glibc's posix_spawn leaves those ignored. */
    const uint64_t standard[4] = {(uintptr_t)SIG_DFL}; /* the kernel's struct sigaction */
    sigset_t none;
    for (int i = 1; i < 65; i++)
        syscall(SYS_rt_sigaction, i, standard, NULL, sizeof(uint64_t));
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void give_up(int status, int index)
{
    struct status report = {.kind = STATUS_FAILED, .error = errno, .index = index};
    strncpy(report.call, syscall_name, sizeof report.call - 1);
    send(status, &report, sizeof report, MSG_NOSIGNAL);
    _exit(127);
}

/* The host's null device, before anything of the container is mounted; whoever replaced it gets ENODEV. */
static int open_null(void)
{
    struct stat st;
    int fd = CALL(openat, AT_FDCWD, "/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, &st) || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)))
        return errno = ENODEV, -1;
    return fd;
}

static void take_stdio(const int stdio[3])
{
    for (int i = 0; i < 3; i++)
        if (stdio[i] >= 0)
            dup2(stdio[i], i);
}

static struct child new_child(const struct plan *plan)
{
    struct child child = {.status = plan->status, .root = -1, .null = -1, .empty = -1};
    child.rows = plan->process->size >> 16;
    child.columns = plan->process->size & 0xffff;
    child.terminal_owner = plan->process->terminal_owner;
    for (int i = 0; i < SLOTS; i++)
        child.slots[i] = -1;
    return child;
}

static _Noreturn void run_init(struct plan *plan)
{
    struct child child = new_child(plan);
    int keep[SLOTS + 1];
    reset_signals();
    setsid();
    take_stdio(plan->stdio);
    memcpy(child.slots, shim.slots, sizeof child.slots);
    memcpy(keep, shim.slots, sizeof shim.slots);
    keep[SLOTS] = plan->status;
    close_others(keep, SLOTS + 1);
    child.null = open_null();
    if (child.null >= 0)
        child_run(&child, plan->list, plan->op, &plan->index);
    give_up(plan->status, plan->index);
}

static _Noreturn void run_exec(struct plan *plan)
{
    struct child child = new_child(plan);
    setsid();
    close(plan->middle);
    if (plan->cgroup >= 0)
        close(plan->cgroup);
    child.root = CALL(openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    child.rooted = child.inside = child.joined = true;
    if (child.root >= 0)
        child_run(&child, plan->list, plan->op, &plan->index);
    give_up(plan->status, plan->index);
}

/* Ops before JOIN: the middle process joins v1 cgroups, which exist on the host's side only. */
static void run_before_join(struct plan *plan)
{
    struct child nobody = {.root = -1};
    for (; plan->op->code != OP_JOIN; plan->op = oplist_next(plan->list, plan->op), plan->index++)
        if (plan->op->code == OP_WRITE && op_write(&nobody, plan->op))
            give_up(plan->middle, plan->index);
}

/* The middle process is in the container's namespaces but, for pids, only its children are: nobody inside sees it. */
static _Noreturn void run_middle(struct plan *plan)
{
    int init = the_init->pidfd, keep[] = {plan->status, plan->middle, plan->cgroup, init};
    reset_signals();
    take_stdio(plan->stdio);
    run_before_join(plan);
    close_others(keep, 4);
    if (CALL(setns, init, (int)plan->namespaces) || (shim.is_mapped && userns_become_root()))
        give_up(plan->middle, plan->index);
    close(init);
    plan->op = oplist_next(plan->list, plan->op);
    pid_t pid = clone_process(CLONE_PARENT, shim.is_mapped ? -1 : plan->cgroup, NULL, 0);
    if (pid == 0) {
        plan->index++;
        run_exec(plan);
    }
    if (pid < 0)
        give_up(plan->middle, plan->index);
    struct status report = {.kind = STATUS_PID, .pid = pid};
    send(plan->middle, &report, sizeof report, MSG_NOSIGNAL);
    _exit(0);
}

static int open_pair(int *ours, int *theirs)
{
    int pair[2];
    syscall_name = "socketpair";
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return -1;
    *ours = pair[0];
    *theirs = pair[1];
    return 0;
}

static struct plan new_plan(struct process *process, const struct oplist *list)
{
    return (struct plan){
        .process = process, .list = list, .cgroup = -1, .stdio = {-1, -1, -1}, .status = -1, .middle = -1};
}

/* Fill what both kinds need. Returns 0, or -1 with errno. */
static int open_plan(struct plan *plan)
{
    if (open_pair(&plan->process->status.fd, &plan->status))
        return -1;
    syscall_name = "pipe2";
    return stdio_open(plan->process, plan->stdio);
}

static void close_plan(struct plan *plan)
{
    close_keeping_errno(plan->status);
    close_keeping_errno(plan->middle);
    for (int i = 0; i < 3; i++)
        close_keeping_errno(plan->stdio[i]);
}

/* Back to our own pid namespace for later children: an exec's middle process reports a pid as it sees it, and must
 * not be seen itself. */
static void leave_pids(void)
{
    if (!shim.pids_joined)
        return;
    int saved = errno, fd = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC); /* the failed call's name is kept */
    if (fd >= 0)
        syscall(SYS_setns, fd, CLONE_NEWPID);
    close_keeping_errno(fd);
    errno = saved;
}

/* What the middle process has reported: the pid, or its failure, which is left in errno. */
static pid_t receive_pid(int said, int *index)
{
    struct status report;
    errno = ESRCH; /* killed before it could say a word */
    if (recv(said, &report, sizeof report, MSG_DONTWAIT) != sizeof report)
        return -1;
    if (report.kind == STATUS_PID)
        return report.pid;
    static char call[sizeof report.call];
    memcpy(call, report.call, sizeof call);
    syscall_name = call;
    *index = report.index;
    errno = report.error;
    return -1;
}

/* The midwife joins what a process in the user namespace could not: cgroups, on the host's side. */
static void run_before_clone(struct plan *plan, const struct op *clone)
{
    struct child nobody = {.root = -1};
    int index = 0;
    for (const struct op *op = oplist_first(plan->list); op != clone; op = oplist_next(plan->list, op), index++)
        if (op->code == OP_WRITE && op_write(&nobody, op))
            give_up(plan->middle, index);
}

/* Namespaces belong to the user namespace of who makes them, so they have to be made from within. A process like an
 * exec's middle goes in there; what it bears is the shim's child. */
static _Noreturn void run_midwife(struct plan *plan, const struct op *clone)
{
    int keep[SLOTS + 7] = {plan->status, plan->middle, shim.userns, shim.pidns};
    run_before_clone(plan, clone);
    memcpy(keep + 4, plan->stdio, sizeof plan->stdio);
    memcpy(keep + 7, shim.slots, sizeof shim.slots);
    close_others(keep, SLOTS + 7);
    if (CALL(setns, shim.userns, CLONE_NEWUSER) || userns_become_root() ||
        (shim.pidns >= 0 && CALL(setns, shim.pidns, CLONE_NEWPID)))
        give_up(plan->middle, plan->index - 1);
    pid_t pid = clone_process(CLONE_PARENT | clone->a, -1, NULL, 0);
    if (pid == 0)
        run_init(plan);
    if (pid < 0)
        give_up(plan->middle, plan->index - 1);
    struct status report = {.kind = STATUS_PID, .pid = pid};
    send(plan->middle, &report, sizeof report, MSG_NOSIGNAL);
    _exit(0);
}

/* The pid of what the middle process has made, once that has ended. */
static pid_t made_by(pid_t middle, int said, int *index)
{
    if (middle >= 0)
        waitpid(middle, NULL, 0);
    pid_t pid = middle < 0 ? -1 : receive_pid(said, index);
    close_keeping_errno(said);
    return pid;
}

static pid_t bear(struct plan *plan, const struct op *clone, int *pidfd, int *index)
{
    int said = -1;
    pid_t middle = open_pair(&said, &plan->middle) ? -1 : clone_process(0, plan->cgroup, NULL, SIGCHLD);
    if (middle == 0)
        run_midwife(plan, clone);
    close_keeping_errno(plan->middle);
    plan->middle = -1;
    pid_t pid = made_by(middle, said, index);
    *pidfd = pid < 0 ? -1 : CALL(pidfd_open, pid, 0);
    return pid;
}

static void close_userns(void)
{
    close_keeping_errno(shim.userns);
    close_keeping_errno(shim.pidns);
    shim.userns = shim.pidns = -1;
}

int spawn_init(struct process *process, const struct oplist *list, const struct op *clone, int *index)
{
    struct plan plan = new_plan(process, list);
    plan.index = *index + 1;
    plan.op = oplist_next(list, clone);
    plan.cgroup = clone->b == NONE ? -1 : shim.slots[clone->b];
    errno = EBADMSG;
    pid_t pid = -1;
    if (plan.op && !open_plan(&plan))
        pid = shim.userns >= 0 ? bear(&plan, clone, &process->pidfd, index)
                               : clone_process(clone->a, plan.cgroup, &process->pidfd, SIGCHLD);
    if (pid == 0)
        run_init(&plan);
    close_plan(&plan);
    close_slots();
    close_userns();
    leave_pids();
    process->pid = pid;
    return pid < 0 ? -1 : 0;
}

/* Find JOIN, and open what comes before it. Returns NULL with errno. */
static const struct op *find_join(const struct oplist *list, int *index)
{
    for (const struct op *op = oplist_first(list); op; op = oplist_next(list, op), ++*index) {
        if (op->code == OP_JOIN && oplist_next(list, op))
            return op;
        errno = EBADMSG;
        if (op->code == OP_OPEN_CGROUP ? open_cgroup(op) : op->code != OP_WRITE)
            return NULL;
    }
    return NULL;
}

int spawn_exec(struct process *process, const struct oplist *list, int *index)
{
    struct plan plan = new_plan(process, list);
    const struct op *join = find_join(list, index);
    int said = -1;
    if (!join)
        return close_slots(), -1;
    plan.op = oplist_first(list);
    plan.namespaces = join->a | (shim.is_mapped ? CLONE_NEWUSER : 0);
    plan.cgroup = join->b == NONE ? -1 : shim.slots[join->b];
    int into = shim.is_mapped ? plan.cgroup : -1; /* from inside, the cgroup cannot be joined */
    pid_t middle = open_plan(&plan) || open_pair(&said, &plan.middle) ? -1 : clone_process(0, into, NULL, SIGCHLD);
    if (middle == 0)
        run_middle(&plan);
    close_plan(&plan);
    close_slots();
    process->pid = made_by(middle, said, index);
    /* Nobody has reaped it yet: the number cannot have been given away. */
    process->pidfd = process->pid < 0 ? -1 : CALL(pidfd_open, process->pid, 0);
    return process->pid < 0 ? -1 : 0;
}
