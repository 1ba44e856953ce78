/* The life of a process: starting, running, ended. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "log.h"
#include "shim.h"
#include "sys.h"

#define each_process(process) \
    (struct process *process = shim.processes; process < shim.processes + shim.process_top; process++) \
        if (process->used)

static void status_ready(struct source *source, uint32_t events);

struct process *process_new(uint16_t number, uint32_t stdio, uint32_t size)
{
    int i = 0;
    while (i < MAX_PROCESSES && shim.processes[i].used)
        i++;
    if (i == MAX_PROCESSES)
        return errno = EAGAIN, NULL;
    struct process *process = &shim.processes[i];
    *process = (struct process){.used = true, .number = number, .pidfd = -1, .stdio = stdio, .size = size};
    process->status = (struct source){.fd = -1, .ready = status_ready};
    process->out[0].fd = process->out[1].fd = process->in.fd = -1;
    process->in_state = STDIN_COMING;
    if (i >= shim.process_top)
        shim.process_top = i + 1;
    return process;
}

struct process *process_find(uint16_t number)
{
    for each_process (process)
        if (process->number == number && !process->ended)
            return process;
    return NULL;
}

void process_watch(struct process *process)
{
    if (process->status.fd >= 0)
        watch(&process->status, EPOLLIN);
    stdio_resume(process);
}

void process_discard(struct process *process)
{
    session_end_all(process);
    stdio_close(process);
    source_close(&process->status);
    if (process->pidfd >= 0)
        close(process->pidfd);
    process->pidfd = -1;
    process->ended = true;
    if (process != the_init)
        process->used = false;
}

bool processes_ended(void)
{
    for each_process (process)
        if (!process->ended)
            return false;
    return true;
}

void process_failed(struct process *process, int error, int index, const char *call)
{
    struct record record = {REC_FAILED, process->number, error, (uint32_t)index, {0}};
    strncpy((char *)record.data, call, sizeof record.data - 1);
    if (process->pid > 0)
        waitpid(process->pid, NULL, 0); /* its cgroup is empty, and its mounts are gone, when the daemon hears of it */
    if (process == the_init)
        control_unlisten();
    session_drop_all(process);
    control_send(process->asker, record, -1);
    if (process == the_init) {
        shim.quit = true;
        shim.exit_status = 1;
    }
    process_discard(process);
}

static void has_started(struct process *process)
{
    source_close(&process->status);
    process->started = true;
    control_send(process->asker, (struct record){REC_STARTED, process->number, process->pid, 0, {0}}, process->pidfd);
}

/* Take one report of the child. Returns false when there is none (yet). */
static bool take_status(struct process *process)
{
    struct status report;
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {&report, sizeof report};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(process->status.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (n != sizeof report)
        has_started(process); /* exec has closed the child's end */
    else if (report.kind == STATUS_FAILED)
        process_failed(process, report.error, report.index, report.call);
    else if (report.kind == STATUS_TERMINAL && rights && rights->cmsg_type == SCM_RIGHTS) {
        int master;
        memcpy(&master, CMSG_DATA(rights), sizeof master);
        stdio_take_terminal(process, master);
    }
    return true;
}

static void status_ready(struct source *source, uint32_t events)
{
    (void)events;
    take_status(owner_of(source, struct process, status));
}

static void write_exit(uint32_t code, int signal, int64_t time_ns)
{
    char text[96];
    snprintf(text, sizeof text, "%u %d %lld %u\n", code, signal, (long long)time_ns, oom_count());
    write_file("exit", text);
}

/* Execs of a container that shares the host's pids are not killed by the kernel when its init ends. */
static void kill_execs(void)
{
    for each_process (process)
        if (process != the_init && !process->ended)
            sys_pidfd_send_signal(process->pidfd, SIGKILL);
}

static void process_ended(struct process *process, int status)
{
    struct timespec now;
    int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    uint32_t code = signal ? 128 + (uint32_t)signal : (uint32_t)WEXITSTATUS(status);
    while (!process->ended && !process->started && take_status(process))
        ;
    if (process->ended)
        return; /* it never ran its program */
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t time_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    stdio_drain(process);
    if (process == the_init) {
        write_exit(code, signal, time_ns);
        control_unlisten();
        kill_execs();
    }
    struct record record = {REC_EXIT, process->number, code, time_ns, {signal}};
    process->ended = true;
    control_send(NULL, record, -1);
    process_discard(process);
    /* The last reference to an overlay syncs its disk: nobody waits for that any more. */
    if (process == the_init && shim.overlay >= 0)
        close(shim.overlay);
}

void process_reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for each_process (process)
            if (process->pid == pid && !process->ended) {
                process_ended(process, status);
                break;
            }
}
