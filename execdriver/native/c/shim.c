/* windlass-shim run: start one container and stay with it until its end.
 *
 * One process, one thread, one loop.  The daemon that started it may die: everything that has to be true afterwards
 * is in files (the log, `exit`), and ctl.sock is there for the next daemon.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "modes.h"
#include "shim.h"
#include "sys.h"

enum { IDLE_MS = 200 };

struct shim shim; /* no initializer: it belongs into .bss, where what is not used costs nothing */

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

void watch(struct source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (source->fd < 0 || events == source->events)
        return;
    int operation = !source->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    source->events = events;
    epoll_ctl(shim.epoll, operation, source->fd, &event);
}

void source_close(struct source *source)
{
    watch(source, 0); /* a copy of the descriptor may live on elsewhere: closing alone would not stop its events */
    if (source->fd >= 0)
        close(source->fd);
    source->fd = -1;
}

static void signal_ready(struct source *source, uint32_t events)
{
    struct signalfd_siginfo info;
    (void)events;
    while (read(source->fd, &info, sizeof info) == sizeof info)
        if (info.ssi_signo == SIGTERM && !the_init->ended && the_init->pidfd >= 0)
            sys_pidfd_send_signal(the_init->pidfd, SIGTERM); /* the host goes down: pass it on, and see how it ends */
    process_reap();
}

static void catch_signals(void)
{
    static struct source source;
    static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGXFSZ};
    sigset_t set;
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_SETMASK, &set, NULL);
    source = (struct source){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = signal_ready};
    watch(&source, EPOLLIN);
}

/* Out of everybody's reach: no tracing, no terminal, no working directory, no process that gets away. */
static void become_supervisor(void)
{
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "windlass-shim");
    setsid();
    if (chdir("/"))
        _exit(1);
    CALL(close_range, 5, ~0u, 0); /* whatever the daemon has forgotten to mark */
    fcntl(3, F_SETFD, FD_CLOEXEC);
    fcntl(4, F_SETFD, FD_CLOEXEC);
    memset(shim.slots, 0xff, sizeof shim.slots); /* -1 */
    shim.rundir = shim.overlay = shim.userns = shim.pidns = -1;
    chunk = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    shim.epoll = epoll_create1(EPOLL_CLOEXEC);
    catch_signals();
}

static int start(struct oplist *list, int *index)
{
    if (oplist_read(3, list))
        return -1;
    close(3);
    *index = 0;
    const struct op *clone = prepare(list, index);
    return clone ? spawn_init(the_init, list, clone, index) : -1;
}

static void start_init(void)
{
    struct oplist list = {0};
    int index = -1;
    if (start(&list, &index)) {
        process_failed(the_init, errno, index, syscall_name);
    } else {
        process_watch(the_init);
        session_input(the_init);
    }
    oplist_free(&list);
}

/* After a burst: give the memory back, also the stack's below us, which keeps an idle shim at about 20 KB. */
static void idle(void)
{
    char *below = (char *)((uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)4095) - 4096;
    madvise(below - (60 << 10), 60 << 10, MADV_DONTNEED);
    madvise(chunk, CHUNK, MADV_DONTNEED);
    log_idle();
    session_idle();
    shim.dirty = false;
}

static bool is_done(void)
{
    return shim.quit || (processes_ended() && sessions_ended());
}

static void loop(void)
{
    for (;;) {
        struct epoll_event event; /* one at a time: handling it may close what the next one would be about */
        int expire = session_expire(); /* first: it may end the last session */
        if (is_done())
            return;
        int timeout = shim.dirty && (expire < 0 || expire > IDLE_MS) ? IDLE_MS : expire;
        int n = epoll_wait(shim.epoll, &event, 1, timeout);
        if (n == 1) {
            struct source *source = event.data.ptr;
            source->ready(source, event.events);
        } else if (n == 0 && shim.dirty)
            idle();
    }
}

int run_main(int argc, char **argv)
{
    (void)argc, (void)argv; /* the container's id is there for whoever reads `ps` */
    become_supervisor();
    process_new(0, 0, 0);
    if (!control_wait_go())
        return 1; /* the daemon has gone before it wanted a container */
    control_adopt(4);
    start_init();
    shim.dirty = true;
    loop();
    control_unlisten();
    return shim.exit_status;
}
