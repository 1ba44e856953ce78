/* A published TCP port that the kernel cannot translate: each connection is joined to one to the container.
 *
 * A connection has no buffer while both ends keep up: what one end did not take waits in a piece of memory of its
 * size, and nothing more is read until it is gone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net.h"

enum { PIECE = 32768, ROUNDS = 4, CONNECTIONS = 4096, ACCEPTS = 16, CONNECT_MS = 60000 };

struct listener {
    struct node node;
    struct endpoint target;
};

/* One end.  The client's is the listener's child, the container's is the client's. */
struct side {
    struct node node;
    struct side *other;
    unsigned char *pending; /* for this end; NULL for none */
    size_t from, size;
    bool ended;      /* nothing more will come from it */
    bool shut;       /* and it has been told that nothing more will come to it */
    bool connecting;
};

static int connections;

/* Who is cut off hears of it as an error, not as an end. */
static void abort_both(struct side *side)
{
    struct side *client = side->node.parent == &side->other->node ? side->other : side;
    struct linger now = {1, 0};
    setsockopt(side->node.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    setsockopt(side->other->node.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    node_free(&client->node);
}

static bool is_broken(ssize_t n)
{
    return n < 0 && errno != EAGAIN && errno != EINTR;
}

/* Returns false when the connection is over by an error. */
static bool flush(struct side *side)
{
    ssize_t n = send(side->node.fd, side->pending + side->from, side->size - side->from, MSG_NOSIGNAL);
    if (is_broken(n))
        return false;
    side->from += n > 0 ? n : 0;
    if (side->from == side->size) {
        free(side->pending);
        side->pending = NULL;
    }
    return true;
}

static bool deliver(struct side *to, const unsigned char *data, size_t size)
{
    ssize_t n = send(to->node.fd, data, size, MSG_NOSIGNAL);
    if (is_broken(n))
        return false;
    n = n < 0 ? 0 : n;
    if ((size_t)n < size) {
        to->from = 0;
        to->size = size - n;
        to->pending = malloc(to->size);
        if (!to->pending)
            return false;
        memcpy(to->pending, data + n, to->size);
    }
    return true;
}

static bool pump(struct side *from)
{
    struct side *to = from->other;
    for (int i = 0; i < ROUNDS && !to->pending && !from->ended; i++) {
        ssize_t n = recv(from->node.fd, net_scratch, PIECE, 0);
        if (n < 0)
            return !is_broken(n);
        if (n == 0)
            from->ended = true;
        else if (!deliver(to, net_scratch, n))
            return false;
    }
    return true;
}

static void pass_end(struct side *from)
{
    struct side *to = from->other;
    if (from->ended && !to->pending && !to->shut) {
        shutdown(to->node.fd, SHUT_WR);
        to->shut = true;
    }
}

static uint32_t wanted(const struct side *side)
{
    return (side->ended || side->other->pending ? 0 : EPOLLIN) | (side->pending ? EPOLLOUT : 0);
}

static bool finish_connect(struct side *side)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(side->node.fd, SOL_SOCKET, SO_ERROR, &error, &size);
    side->connecting = false;
    node_deadline(&side->node, 0);
    return !error;
}

static void side_ready(struct node *node, uint32_t events)
{
    struct side *side = (struct side *)node, *other = side->other;
    if (side->connecting ? !finish_connect(side) : other->connecting) {
        abort_both(side);
        return;
    }
    if (events & EPOLLERR || (side->pending && !flush(side)) || !pump(side) || !pump(other)) {
        abort_both(side);
        return;
    }
    pass_end(side);
    pass_end(other);
    if (side->shut && other->shut) {
        node_free(&(side->node.parent == &other->node ? other : side)->node);
        return;
    }
    node_watch(&side->node, wanted(side));
    node_watch(&other->node, wanted(other));
    if (events & EPOLLHUP && !side->node.events)
        node_unwatch(&side->node); /* closed both ways, yet unread: it would say so in circles */
}

static void connect_expired(struct node *node)
{
    abort_both((struct side *)node);
}

static void side_gone(struct node *node)
{
    struct side *side = (struct side *)node;
    free(side->pending);
    if (side->node.parent != &side->other->node)
        connections--;
}

static void prepare(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* the ends decide when to send */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

static void join(struct listener *listener, int fd)
{
    struct side *client = node_new(sizeof *client, &listener->node, fd), *target;
    if (!client)
        return;
    connections++;
    client->other = client; /* until there is another: no child of its own */
    client->node.gone = side_gone;
    client->node.ready = side_ready;
    int out = net_connect(&listener->target, SOCK_STREAM);
    if (out < 0 || !(target = node_new(sizeof *target, &client->node, out))) {
        abort_both(client);
        return;
    }
    prepare(fd);
    prepare(out);
    *target = (struct side){.node = target->node, .other = client, .connecting = true};
    target->node.gone = side_gone;
    target->node.ready = side_ready;
    target->node.expired = connect_expired;
    client->other = target;
    node_deadline(&target->node, CONNECT_MS);
    node_watch(&target->node, EPOLLOUT);
    node_watch(&client->node, 0);
}

static void listener_ready(struct node *node, uint32_t events)
{
    int fd;
    (void)events;
    for (int i = 0; i < ACCEPTS && (fd = net_accept(node)) >= 0; i++) {
        if (connections < CONNECTIONS)
            join((struct listener *)node, fd);
        else
            close(fd);
    }
}

int proxy_tcp_start(struct item *item, int fd, const struct endpoint *target)
{
    struct listener *listener = node_new(sizeof *listener, &item->node, fd);
    if (!listener)
        return -1;
    listener->target = *target;
    listener->node.ready = listener_ready;
    node_watch(&listener->node, EPOLLIN);
    return 0;
}
