/* windlass-shim net: names and ports of all containers, for as long as any runs; see net.h.
 *
 * One process a daemon, in the host's network namespace, that outlives the daemon.  It answers DNS on sockets that
 * live in the containers' namespaces, carries what the kernel cannot translate ([::1] to an IPv4 container), and
 * keeps the sockets that reserve published ports.  It believes the daemon, and nothing that comes from a container:
 * it is nobody, may do nothing, and all that a container can make it allocate has a limit.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "modes.h"
#include "net.h"
#include "sys.h"

enum { TICK = 250, NOBODY = 65534, PAUSE = 1000, EVENTS = 64 };

struct node net_root = {.fd = -1};
unsigned char net_scratch[SCRATCH];
static int epoll = -1;
static struct node *timed, *dead; /* both by timed_next */

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* -- nodes -- */

static void link_last(struct node *node)
{
    struct node *parent = node->parent;
    node->next = NULL;
    node->previous = parent->last;
    *(parent->last ? &parent->last->next : &parent->first) = node;
    parent->last = node;
}

static void unlink_node(struct node *node)
{
    *(node->previous ? &node->previous->next : &node->parent->first) = node->next;
    *(node->next ? &node->next->previous : &node->parent->last) = node->previous;
}

void *node_new(size_t size, struct node *parent, int fd)
{
    struct node *node = calloc(1, size);
    if (!node) {
        close_keeping_errno(fd);
        return NULL;
    }
    node->fd = fd;
    node->parent = parent;
    link_last(node);
    return node;
}

void node_touch(struct node *node)
{
    unlink_node(node);
    link_last(node);
}

void node_deadline(struct node *node, int64_t ms)
{
    bool was = node->deadline, is = ms;
    node->deadline = is ? clock_ms() + ms : 0;
    if (is && !was) {
        node->timed_previous = NULL;
        node->timed_next = timed;
        if (timed)
            timed->timed_previous = node;
        timed = node;
    } else if (was && !is) {
        *(node->timed_previous ? &node->timed_previous->timed_next : &timed) = node->timed_next;
        if (node->timed_next)
            node->timed_next->timed_previous = node->timed_previous;
    }
}

void node_watch(struct node *node, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = node};
    if (node->fd < 0 || (node->registered && node->events == events))
        return;
    if (epoll_ctl(epoll, node->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, node->fd, &event))
        node_deadline(node, 1); /* no memory: it is as good as broken */
    else
        node->registered = true;
    node->events = events;
}

void node_unwatch(struct node *node)
{
    if (node->registered)
        epoll_ctl(epoll, EPOLL_CTL_DEL, node->fd, NULL);
    node->registered = false;
}

void node_free(struct node *node)
{
    if (node->dead)
        return;
    node->dead = true;
    while (node->first)
        node_free(node->first);
    if (node->gone)
        node->gone(node);
    node_deadline(node, 0);
    node_unwatch(node); /* closing is not enough: the daemon may still have a copy */
    close_keeping_errno(node->fd);
    unlink_node(node);
    node->timed_next = dead;
    dead = node;
}

/* -- the loop -- */

static void expire(int64_t now)
{
    /* What is freed meanwhile moves over to `dead`, so each turn begins at the front again. */
    for (struct node *node = timed; node;) {
        if (node->deadline > now) {
            node = node->timed_next;
            continue;
        }
        node_deadline(node, 0);
        if (node->expired)
            node->expired(node);
        else
            node_free(node);
        node = timed;
    }
}

static void bury(void)
{
    for (struct node *node; (node = dead); free(node))
        dead = node->timed_next;
}

static int serve(void)
{
    struct epoll_event events[EVENTS];
    int64_t last = 0;
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, timed ? TICK : -1);
        if (n < 0 && errno != EINTR)
            return 1;
        for (int i = 0; i < n; i++) {
            struct node *node = events[i].data.ptr;
            if (!node->dead)
                node->ready(node, events[i].events);
        }
        int64_t now = clock_ms();
        if (now - last >= TICK) {
            last = now;
            expire(now);
        }
        bury();
    }
}

/* -- small things -- */

bool endpoint_parse(struct endpoint *endpoint, const char *ip, unsigned port)
{
    struct sockaddr_in *v4 = (void *)&endpoint->address;
    struct sockaddr_in6 *v6 = (void *)&endpoint->address;
    memset(endpoint, 0, sizeof *endpoint);
    if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        endpoint->size = sizeof *v4;
    } else if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        endpoint->size = sizeof *v6;
    }
    return endpoint->size && port <= 65535;
}

const char *owner_id(const struct node *node)
{
    while (node->parent != &net_root)
        node = node->parent;
    return ((const struct owner *)node)->id;
}

unsigned net_random(unsigned below)
{
    uint32_t value;
    if (getrandom(&value, sizeof value, 0) != sizeof value)
        abort(); /* an id that can be guessed is worse than none */
    return value % below;
}

int net_connect(const struct endpoint *to, int type)
{
    int fd = socket(to->address.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || !connect(fd, (const void *)&to->address, to->size) || errno == EINPROGRESS)
        return fd;
    close_keeping_errno(fd);
    return -1;
}

static void resume(struct node *listener)
{
    node_watch(listener, EPOLLIN);
}

int net_accept(struct node *listener)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
        listener->expired = resume;
        node_unwatch(listener);
        node_deadline(listener, PAUSE);
    }
    return fd;
}

/* -- becoming nobody -- */

static void drop_capabilities(void)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    CALL(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    CALL(capset, &head, none);
}

static int become_nobody(void)
{
    struct rlimit files, none = {0, 0};
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    setrlimit(RLIMIT_CORE, &none);
    for (int i = 0; i < 64; i++)
        CALL(prctl, PR_CAPBSET_DROP, i, 0, 0, 0);
    if (CALL(setgroups, (size_t)0, NULL) || CALL(setresgid, NOBODY, NOBODY, NOBODY) ||
        CALL(setresuid, NOBODY, NOBODY, NOBODY))
        return -1;
    drop_capabilities();
    prctl(PR_SET_DUMPABLE, 0);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int net_main(int argc, char **argv)
{
    static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE};
    sigset_t none;
    (void)argc, (void)argv;
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_NAME, "windlass-net");
    CALL(close_range, NET_FOLDER + 1, ~0u, 0);
    fcntl(NET_CONTROL, F_SETFD, FD_CLOEXEC);
    fcntl(NET_FOLDER, F_SETFD, FD_CLOEXEC);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || chdir("/") || become_nobody() || !control_start(NET_CONTROL))
        return 1;
    return serve();
}
