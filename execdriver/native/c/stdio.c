/* Standard streams of a process: output to the log and the sessions, stdin from the sessions.
 *
 * Back-pressure: when a session cannot take what it was sent, its process's output is not read any more until it
 * can, as with Docker; the kernel's pipe then stops the process.  At most one chunk a session is kept.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "log.h"
#include "shim.h"

enum { DRAIN_MAX = 4 << 20 }; /* after the end: more than any pipe holds; whoever still writes does not keep us */

char *chunk;

static void end_output(struct process *process, int i)
{
    source_close(&process->out[i]);
    if (process == the_init)
        log_end(i + 1);
    if (process->out[1 - i].fd < 0)
        session_end_all(process);
}

/* Move one chunk. Returns its size; 0 when there is nothing now, -1 when the stream has ended. */
static ssize_t pump(struct process *process, int i)
{
    ssize_t n = read(process->out[i].fd, chunk, CHUNK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) /* EIO: nobody holds the terminal any more */
        return -1;
    shim.dirty = true;
    if (process == the_init) {
        log_output(i + 1, chunk, n);
        log_flush();
    }
    session_output(process, i + 1, chunk, n);
    return n;
}

static void output_ready(struct process *process, int i)
{
    if (pump(process, i) < 0)
        end_output(process, i);
    else
        stdio_resume(process);
}

static void stdout_ready(struct source *source, uint32_t events)
{
    (void)events;
    output_ready(owner_of(source, struct process, out[0]), 0);
}

static void stderr_ready(struct source *source, uint32_t events)
{
    (void)events;
    output_ready(owner_of(source, struct process, out[1]), 1);
}

void stdio_resume(struct process *process)
{
    uint32_t events = session_blocked(process) ? 0 : EPOLLIN;
    for (int i = 0; i < 2; i++)
        watch(&process->out[i], events);
}

void stdio_drain(struct process *process)
{
    for (int i = 0; i < 2; i++) {
        ssize_t n = 1;
        for (size_t total = 0; process->out[i].fd >= 0 && n > 0 && total < DRAIN_MAX; total += n)
            n = pump(process, i);
        source_close(&process->out[i]);
        if (process == the_init)
            log_end(i + 1);
    }
}

/* Write what waits for the process's stdin. */
static void stdin_ready(struct source *source, uint32_t events)
{
    struct process *process = owner_of(source, struct process, in);
    struct buffer *waiting = &process->in_waiting;
    ssize_t n = write(source->fd, waiting->data + waiting->start, waiting->used);
    if (n < 0 && errno == EAGAIN && !(events & EPOLLERR))
        return;
    if (n < 0) /* it has closed its stdin */
        process->in_ends = true;
    buffer_taken(waiting, n < 0 ? waiting->used : (size_t)n);
    if (waiting->used)
        return;
    watch(source, 0);
    if (process->in_ends)
        stdin_close(process);
    session_input(process);
}

bool stdin_write(struct process *process, const char *data, size_t size)
{
    if (process->in_state != STDIN_OPEN)
        return false;
    ssize_t n = process->in_waiting.used ? 0 : write(process->in.fd, data, size);
    if (n < 0 && errno != EAGAIN) {
        stdin_close(process);
        return false;
    }
    n = n < 0 ? 0 : n;
    if ((size_t)n < size) {
        buffer_put(&process->in_waiting, data + n, size - n);
        watch(&process->in, EPOLLOUT);
    }
    return true;
}

void stdin_close(struct process *process)
{
    if (process->stdio & STDIO_TTY)
        return; /* there is no half of a terminal to close */
    process->in_ends = true;
    if (process->in_waiting.used)
        return; /* stdin_ready comes back here */
    process->in_state = STDIN_NONE;
    source_close(&process->in);
    buffer_free(&process->in_waiting);
}

static int make_pipe(struct source *ours, int *theirs, int our_end)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    ours->fd = ends[our_end];
    *theirs = ends[1 - our_end];
    return fcntl(ours->fd, F_SETFL, O_NONBLOCK);
}

int stdio_open(struct process *process, int child_end[3])
{
    process->in.ready = stdin_ready;
    process->out[0].ready = stdout_ready;
    process->out[1].ready = stderr_ready;
    process->in_state = process->stdio & STDIO_STDIN ? STDIN_COMING : STDIN_NONE;
    if (process->stdio & STDIO_TTY)
        return 0;
    if (process->stdio & STDIO_STDIN) {
        if (make_pipe(&process->in, &child_end[0], 1))
            return -1;
        process->in_state = STDIN_OPEN;
    }
    if (process->unheard)
        return 0;
    return make_pipe(&process->out[0], &child_end[1], 0) || make_pipe(&process->out[1], &child_end[2], 0) ? -1 : 0;
}

void stdio_take_terminal(struct process *process, int master)
{
    process->out[0].fd = master;
    if (process->stdio & STDIO_STDIN) {
        process->in.fd = fcntl(master, F_DUPFD_CLOEXEC, 3); /* epoll wants a descriptor for each direction */
        process->in_state = STDIN_OPEN;
    }
    process_watch(process);
    session_input(process);
}

void stdio_close(struct process *process)
{
    source_close(&process->out[0]);
    source_close(&process->out[1]);
    source_close(&process->in);
    process->in_state = STDIN_NONE;
    buffer_free(&process->in_waiting);
}
