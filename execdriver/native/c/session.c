/* Sessions: clients attached to a process by a socket that the daemon has handed over.
 *
 * Output goes out in Docker's frames {stream, 0, 0, 0, length big endian} unless the session is raw; a terminal's
 * sessions are.  A session ends by its detach keys, by its client's going, or by the end of the process's output.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shim.h"

enum { BY_CLIENT = 0, BY_KEYS = 1, BY_END = 2 };
enum { LINGER_MS = 2000, STUCK_MS = 600000 };

static bool is_terminal(const struct session *session)
{
    return session->process && session->process->stdio & STDIO_TTY;
}

/* Whether bytes from the client have a place to go: stdin, or nowhere for good. */
static bool can_read(const struct session *session)
{
    const struct process *process = session->process;
    if (session->closing || !(session->flags & ATTACH_STDIN))
        return true;
    return process && session->early < 0 && process->in_state != STDIN_COMING && !process->in_waiting.used;
}

/* The one place that decides what to wait for. A client that has hung up with bytes unread would make epoll spin. */
static void watch_client(struct session *session)
{
    uint32_t events = EPOLLHUP;
    if (session->out.used)
        events |= EPOLLOUT;
    if (!session->input_ended && can_read(session))
        events |= EPOLLIN;
    if (session->hung_up && !(events & EPOLLIN))
        events = 0;
    watch(&session->client, events);
}

static void forget(struct session *session)
{
    source_close(&session->client);
    buffer_free(&session->out);
    if (session->early >= 0)
        close(session->early);
    session->used = false;
}

static void end_input(struct session *session)
{
    struct process *process = session->process;
    if (!session->input_ended && process && session->flags & ATTACH_STDIN && process->stdio & STDIO_STDIN_ONCE)
        stdin_close(process);
    session->input_ended = true;
}

/* Nothing more is to be sent. The client may still be sending: closing now would reset the connection under its
 * last bytes, so it gets a moment to close first. */
static void finish(struct session *session, uint32_t how)
{
    struct process *process = session->process;
    struct record record = {REC_DETACHED, session->process_number, how, session->number, {0}};
    if (how == BY_CLIENT)
        end_input(session);
    session->process = NULL;
    control_send(NULL, record, -1);
    buffer_free(&session->out);
    if (process)
        stdio_resume(process); /* it may have waited for this one */
    if (how == BY_CLIENT || session->input_ended) {
        forget(session);
        return;
    }
    shutdown(session->client.fd, SHUT_WR);
    session->closing = true;
    session->give_up_at = now_ms() + LINGER_MS;
    watch_client(session);
}

static void send_waiting(struct session *session)
{
    struct buffer *out = &session->out;
    ssize_t n = send(session->client.fd, out->data + out->start, out->used, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        finish(session, BY_CLIENT);
        return;
    }
    buffer_taken(out, n < 0 ? 0 : n);
    if (!session->process)
        session->give_up_at = now_ms() + STUCK_MS;
    if (out->used)
        return;
    if (session->process)
        stdio_resume(session->process);
    else
        finish(session, BY_END);
}

/* Pass `size` bytes of input on but for the detach keys. Returns false when they were all there.
 * `room` has place for `size` bytes and the keys. */
static bool pass_on(struct session *session, const char *data, size_t size, char *room)
{
    char *out = room;
    for (const char *end = data + size; data < end; data++) {
        if (*data != session->keys[session->keys_matched]) { /* what looked like the keys was input */
            memcpy(out, session->keys, session->keys_matched);
            out += session->keys_matched;
            session->keys_matched = 0;
        }
        if (*data != session->keys[session->keys_matched])
            *out++ = *data;
        else if (++session->keys_matched == session->key_count)
            break;
    }
    stdin_write(session->process, room, out - room);
    return session->keys_matched < session->key_count;
}

/* Give input to the process. Returns false when the session has ended by it. */
static bool feed(struct session *session, char *data, size_t size)
{
    if (session->closing || !(session->flags & ATTACH_STDIN) || !session->process)
        return true;
    if (!is_terminal(session) || !session->key_count) {
        stdin_write(session->process, data, size);
        return true;
    }
    if (pass_on(session, data, size, chunk + CHUNK / 2))
        return true;
    finish(session, BY_KEYS);
    return false;
}

/* Half a chunk, so that the other half can take what is left after a look for detach keys. */
enum { INPUT_MAX = CHUNK / 2 - 128 };

static void read_client(struct session *session)
{
    bool plain = !is_terminal(session);
    ssize_t n = recv(session->client.fd, chunk, plain ? CHUNK : INPUT_MAX, MSG_DONTWAIT);
    shim.dirty = true;
    if (n > 0)
        feed(session, chunk, n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        end_input(session);
}

static void read_early(struct session *session)
{
    while (session->used && session->early >= 0 && session->process && session->process->in_state != STDIN_COMING &&
           !session->process->in_waiting.used) {
        ssize_t n = read(session->early, chunk, INPUT_MAX);
        if (n <= 0) {
            close(session->early);
            session->early = -1;
        } else if (!feed(session, chunk, n))
            return;
    }
}

static void client_ready(struct source *source, uint32_t events)
{
    struct session *session = owner_of(source, struct session, client);
    bool gone = events & (EPOLLHUP | EPOLLERR);
    if (events & EPOLLOUT && session->out.used)
        send_waiting(session);
    if (session->used && (events & EPOLLIN || gone) && !session->input_ended && can_read(session))
        read_client(session);
    if (!session->used)
        return;
    session->hung_up = gone;
    if (session->closing && (session->input_ended || gone))
        forget(session);
    else if (gone && (session->input_ended || events & EPOLLERR))
        finish(session, BY_CLIENT);
    else
        watch_client(session);
}

int session_new(struct process *process, int client, int early, unsigned flags, uint32_t number, const uint8_t *keys)
{
    int type, i = 0;
    socklen_t size = sizeof type;
    if (getsockopt(client, SOL_SOCKET, SO_TYPE, &type, &size))
        return -1;
    errno = EPROTOTYPE;
    if (type != SOCK_STREAM)
        return -1;
    while (i < MAX_SESSIONS && shim.sessions[i].used)
        i++;
    errno = EAGAIN;
    if (i == MAX_SESSIONS)
        return -1;
    struct session *session = &shim.sessions[i];
    *session = (struct session){.used = true, .flags = flags, .number = number, .early = early, .process = process};
    session->process_number = process->number;
    session->client = (struct source){.fd = client, .ready = client_ready};
    memcpy(session->keys, keys, sizeof session->keys);
    session->key_count = strnlen(session->keys, sizeof session->keys - 1);
    if (i >= shim.session_top)
        shim.session_top = i + 1;
    return 0;
}

#define each_session(session) \
    (struct session *session = shim.sessions; session < shim.sessions + shim.session_top; session++) \
        if (session->used)

static void send_output(struct session *session, int stream, const char *data, size_t size)
{
    unsigned char header[8] = {stream, 0, 0, 0, size >> 24, size >> 16, size >> 8, size};
    size_t skip = session->flags & ATTACH_RAW || is_terminal(session) ? 8 : 0;
    struct iovec parts[2] = {{header, 8}, {(char *)data, size}};
    struct msghdr message = {.msg_iov = parts + (skip == 8), .msg_iovlen = 2 - (skip == 8)};
    ssize_t n = session->out.used ? 0 : sendmsg(session->client.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        finish(session, BY_CLIENT);
        return;
    }
    size_t sent = skip + (n < 0 ? 0 : n);
    if (sent == size + 8)
        return;
    if (sent < 8)
        buffer_put(&session->out, (char *)header + sent, 8 - sent);
    size_t of_data = sent < 8 ? 0 : sent - 8;
    buffer_put(&session->out, data + of_data, size - of_data);
    watch_client(session);
}

void session_output(struct process *process, int stream, const char *data, size_t size)
{
    unsigned wanted = stream == 2 ? ATTACH_STDERR : ATTACH_STDOUT;
    for each_session (session)
        if (session->process == process && session->flags & wanted)
            send_output(session, stream, data, size);
}

bool session_blocked(const struct process *process)
{
    for each_session (session)
        if (session->process == process && session->out.used)
            return true;
    return false;
}

void session_input(struct process *process)
{
    for each_session (session) {
        if (session->process != process)
            continue;
        read_early(session);
        if (session->used)
            watch_client(session);
    }
}

void session_end_all(struct process *process)
{
    for each_session (session) {
        if (session->process != process)
            continue;
        session->give_up_at = now_ms() + STUCK_MS;
        if (!session->out.used)
            finish(session, BY_END);
        else
            session->process = NULL; /* what is left goes out first */
    }
}

/* A process that could not start: its clients go back to the daemon, which has something to say to them. */
void session_drop_all(struct process *process)
{
    for each_session (session)
        if (session->process == process)
            forget(session);
}

int session_expire(void)
{
    int64_t now = now_ms(), next = -1;
    for each_session (session) {
        if (session->give_up_at && session->give_up_at <= now) {
            if (!session->closing)
                finish(session, BY_CLIENT);
            else
                forget(session);
        } else if (session->give_up_at && (next < 0 || session->give_up_at - now < next))
            next = session->give_up_at - now;
    }
    return next;
}

bool sessions_ended(void)
{
    for each_session (session)
        return false;
    return true;
}

void session_idle(void)
{
    for each_session (session)
        if (!session->out.used)
            buffer_free(&session->out);
}
