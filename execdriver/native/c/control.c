/* Records: from the daemon that started us (fd 4), and from any that finds ctl.sock later. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"
#include "shim.h"
#include "sys.h"

static struct connection connections[MAX_CONNECTIONS];
static struct source listener = {.fd = -1};

static void connection_ready(struct source *source, uint32_t events);

#define each_connection(connection) \
    (struct connection *connection = connections; connection < connections + MAX_CONNECTIONS; connection++) \
        if (connection->source.ready && connection->source.fd >= 0)

static void hang_up(struct connection *connection)
{
    source_close(&connection->source);
    for (int i = 0; i < shim.process_top; i++)
        if (shim.processes[i].asker == connection)
            shim.processes[i].asker = NULL;
}

void control_adopt(int fd)
{
    for (struct connection *c = connections; c < connections + MAX_CONNECTIONS; c++) {
        if (c->source.ready && c->source.fd >= 0)
            continue;
        c->source = (struct source){.fd = fd, .ready = connection_ready};
        watch(&c->source, EPOLLIN);
        return;
    }
    close(fd); /* too many */
}

union rights {
    struct cmsghdr head;
    char space[CMSG_SPACE(4 * sizeof(int))];
};

static void send_one(struct connection *to, struct record *record, int fd)
{
    union rights rights = {
        .head = {.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {record, sizeof *record};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        memcpy(CMSG_DATA(&rights.head), &fd, sizeof fd);
        message.msg_control = &rights;
        message.msg_controllen = CMSG_SPACE(sizeof fd);
    }
    /* A daemon that does not read must not stop a container: it is cut off, and asks again when it comes back.
     * One that has gone is left to connection_ready: its last records may still be there to read. */
    if (sendmsg(to->source.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN)
        hang_up(to);
}

void control_send(struct connection *to, struct record record, int fd)
{
    if (to)
        send_one(to, &record, fd);
    else
        for each_connection (connection)
            send_one(connection, &record, fd);
}

/* Receive one record and up to 4 descriptors; the others are -1. Returns false at the end, or on nonsense. */
static bool receive(int socket, struct record *record, int fds[4], int flags)
{
    union rights rights;
    struct iovec part = {record, sizeof *record};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    for (int i = 0; i < 4; i++)
        fds[i] = -1;
    ssize_t n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == ECONNRESET) /* it went without reading our answers; what it sent is behind the error */
        n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    struct cmsghdr *head = n < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(head), head->cmsg_len - CMSG_LEN(0));
    return n == sizeof *record && !(message.msg_flags & MSG_TRUNC);
}

static void close_all(int fds[4])
{
    for (int i = 0; i < 4; i++)
        close_keeping_errno(fds[i]);
}

/* Each handler returns 0, or -1 with errno, and sets to -1 the descriptors that it keeps. */

static int attach(const struct record *record, int fds[4])
{
    struct process *process = process_find(record->proc);
    errno = ESRCH;
    if (!process || session_new(process, fds[0], fds[1], record->a, record->b, record->data))
        return -1;
    fds[0] = fds[1] = -1;
    if (process->pid) /* before that nothing can be said about its stdin */
        session_input(process);
    return 0;
}

static int resize(const struct record *record, int fds[4])
{
    struct process *process = process_find(record->proc);
    struct winsize size = {record->a >> 16, record->a & 0xffff, 0, 0};
    (void)fds;
    errno = ESRCH;
    if (!process)
        return -1;
    process->size = record->a;
    errno = ENOTTY;
    if (!(process->stdio & STDIO_TTY))
        return -1;
    return process->out[0].fd < 0 ? 0 : ioctl(process->out[0].fd, TIOCSWINSZ, &size);
}

static int send_signal(const struct record *record, int fds[4])
{
    struct process *process = process_find(record->proc);
    (void)fds;
    errno = ESRCH;
    return process ? sys_pidfd_send_signal(process->pidfd, record->a) : -1;
}

static int close_stdin(const struct record *record, int fds[4])
{
    struct process *process = process_find(record->proc);
    (void)fds;
    errno = ESRCH;
    if (!process)
        return -1;
    stdin_close(process);
    return 0;
}

static int rotate(const struct record *record, int fds[4])
{
    (void)record, (void)fds;
    return log_rotate();
}

static void tell_state(struct connection *to, uint16_t number)
{
    struct process *process = process_find(number);
    if (!process) {
        control_send(to, (struct record){REC_ERROR, number, ESRCH, REC_STATUS, {0}}, -1);
        return;
    }
    struct record record = {REC_STATE, number, process->pid, PROTOCOL_VERSION, {0}};
    uint32_t data[] = {process->started, log_dropped, oom_count()};
    memcpy(record.data, data, sizeof data);
    control_send(to, record, process->pidfd);
}

static void handle(struct connection *from, struct record *record, int fds[4])
{
    static int (*const handlers[])(const struct record *, int[4]) = {
        [REC_ATTACH] = attach,
        [REC_STDIN_CLOSE] = close_stdin,
        [REC_RESIZE] = resize,
        [REC_SIGNAL] = send_signal,
        [REC_ROTATE] = rotate,
    };
    if (record->type == REC_STATUS) {
        tell_state(from, record->proc);
        return;
    }
    if (record->type == REC_EXEC) {
        exec_start(from, record, fds);
        return;
    }
    errno = EOPNOTSUPP;
    int result = record->type < sizeof handlers / sizeof *handlers && handlers[record->type]
                     ? handlers[record->type](record, fds)
                     : -1;
    struct record answer = {result ? REC_ERROR : REC_OK, record->proc, result ? errno : 0, record->type, {0}};
    control_send(from, answer, -1);
}

static void connection_ready(struct source *source, uint32_t events)
{
    struct connection *connection = owner_of(source, struct connection, source);
    struct record record;
    int fds[4];
    (void)events;
    if (receive(source->fd, &record, fds, MSG_DONTWAIT))
        handle(connection, &record, fds);
    else
        hang_up(connection);
    close_all(fds);
}

bool control_wait_go(void)
{
    struct record record;
    int fds[4];
    while (receive(4, &record, fds, 0)) {
        if (record.type == REC_ATTACH)
            attach(&record, fds);
        close_all(fds);
        if (record.type == REC_GO)
            return true;
    }
    close_all(fds);
    return false;
}

static void accept_daemon(struct source *source, uint32_t events)
{
    struct ucred peer = {.uid = -1};
    socklen_t size = sizeof peer;
    (void)events;
    int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) || peer.uid != geteuid())
        close(fd);
    else
        control_adopt(fd);
}

int control_listen(void)
{
    struct sockaddr_un address = {AF_UNIX, "ctl.sock"};
    listener = (struct source){.fd = CALL(socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                               .ready = accept_daemon};
    if (listener.fd < 0 || CALL(fchdir, shim.rundir)) /* a path of its own may be over the 108 bytes of sun_path */
        return -1;
    unlink("ctl.sock");
    mode_t before = umask(0177);
    int result = CALL(bind, listener.fd, &address, sizeof address) || CALL(listen, listener.fd, 16) ? -1 : 0;
    umask(before);
    if (!result)
        watch(&listener, EPOLLIN);
    return chdir("/") ? -1 : result;
}

void control_unlisten(void)
{
    if (listener.fd < 0)
        return;
    unlinkat(shim.rundir, "ctl.sock", 0);
    source_close(&listener);
}
