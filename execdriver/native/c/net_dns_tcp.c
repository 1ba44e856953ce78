/* DNS over TCP (RFC 7766): messages with two bytes of length before them.
 *
 * A client has one question at a time: while it is on its way to an upstream server, a child of the client, nothing
 * more is read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "net_dns.h"
#include "net_dns_tcp.h"

enum { CLIENTS = 256, CLIENTS_EACH = 16, IDLE_MS = 10000, SERVERS = 8, ACCEPTS = 8, MESSAGE = 65535 };

struct listener {
    struct node node;
    int clients;
};

/* One end, to a client or to a server. */
struct stream {
    struct node node;
    unsigned char *in, *out;
    size_t in_used, in_size, out_used, out_size;
};

struct client {
    struct stream stream;
    struct question question; /* that is on its way */
    unsigned char id[2];
    int number;               /* of the server that is being asked */
};

static int clients;

static void ask(struct client *client);

static void stream_gone(struct node *node)
{
    free(((struct stream *)node)->in);
    free(((struct stream *)node)->out);
}

/* Queue a message. Returns false when there is no memory. */
static bool put(struct stream *stream, const void *data, size_t size)
{
    stream->out = malloc(size + 2);
    if (!stream->out)
        return false;
    stream->out[0] = size >> 8;
    stream->out[1] = size;
    memcpy(stream->out + 2, data, size);
    stream->out_used = 0;
    stream->out_size = size + 2;
    return true;
}

/* Send what is queued; stream->out is NULL when all of it is sent. Returns false on an error. */
static bool flush(struct stream *stream)
{
    ssize_t n = send(stream->node.fd, stream->out + stream->out_used, stream->out_size - stream->out_used,
                     MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    stream->out_used += n;
    if (stream->out_used == stream->out_size) {
        free(stream->out);
        stream->out = NULL;
    }
    return true;
}

/* Read on in a message of up to `most` bytes. Returns 1 when it is whole, 0 when not yet, -1 at the end. */
static int get(struct stream *stream, size_t most)
{
    for (;;) {
        if (!stream->in) {
            stream->in_used = 0;
            stream->in_size = 2;
            stream->in = malloc(most + 2);
            if (!stream->in)
                return -1;
        }
        ssize_t n = recv(stream->node.fd, stream->in + stream->in_used, stream->in_size - stream->in_used, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n <= 0)
            return -1;
        stream->in_used += n;
        if (stream->in_used < stream->in_size)
            continue;
        if (stream->in_size > 2)
            return 1;
        stream->in_size += stream->in[0] << 8 | stream->in[1];
        if (stream->in_size < 2 + DNS_HEADER || stream->in_size > most + 2)
            return -1;
    }
}

static void forget(struct stream *stream)
{
    free(stream->in);
    stream->in = NULL;
}

/* -- the client -- */

static void client_gone(struct node *node)
{
    stream_gone(node);
    ((struct listener *)node->parent)->clients--;
    clients--;
}

static void reply_with(struct client *client, const void *data, size_t size)
{
    struct stream *stream = &client->stream;
    forget(stream);
    if (!put(stream, data, size) || !flush(stream)) {
        node_free(&stream->node);
        return;
    }
    node_deadline(&stream->node, IDLE_MS);
    node_watch(&stream->node, stream->out ? EPOLLOUT : EPOLLIN);
}

static void refuse(struct client *client, int rcode)
{
    static struct reply reply;
    reply_begin(&reply, client->stream.in + 2, &client->question, rcode, MESSAGE);
    reply_end(&reply);
    reply_with(client, reply.data, reply.size);
}

static void answer(struct client *client)
{
    static struct reply reply;
    unsigned char *message = client->stream.in + 2;
    int rcode = question_parse(&client->question, message, client->stream.in_size - 2);
    if (rcode == DROP) {
        node_free(&client->stream.node);
    } else if (rcode) {
        refuse(client, rcode);
    } else if (names_answer(owner_id(&client->stream.node), message, &client->question, MESSAGE, &reply)) {
        reply_with(client, reply.data, reply.size);
    } else {
        client->number = 0;
        memcpy(client->id, message, 2);
        node_deadline(&client->stream.node, 0);
        node_watch(&client->stream.node, 0);
        ask(client);
    }
}

static void client_ready(struct node *node, uint32_t events)
{
    struct client *client = (struct client *)node;
    if (node->first) { /* a question is on its way: this can only be its end */
        if (events & (EPOLLERR | EPOLLHUP))
            node_free(node);
        return;
    }
    if (client->stream.out) {
        if (!flush(&client->stream))
            node_free(node);
        else if (!client->stream.out)
            node_watch(node, EPOLLIN);
        return;
    }
    int whole = get(&client->stream, DNS_QUERY);
    if (whole < 0)
        node_free(node);
    else if (whole)
        answer(client);
}

/* -- the upstream server -- */

static void upstream_failed(struct node *node)
{
    struct client *client = (struct client *)node->parent;
    node_free(node);
    client->number++;
    ask(client);
}

static void upstream_ready(struct node *node, uint32_t events)
{
    struct stream *stream = (struct stream *)node;
    struct client *client = (struct client *)node->parent;
    if (stream->out) {
        if (events & EPOLLERR || !flush(stream))
            upstream_failed(node);
        else
            node_watch(node, stream->out ? EPOLLOUT : EPOLLIN);
        return;
    }
    int whole = get(stream, MESSAGE);
    if (!whole)
        return;
    unsigned char *message = stream->in + 2;
    size_t size = stream->in_size - 2;
    if (whole < 0 || !reply_matches(client->stream.in + 2, client->question.end, message, size)) {
        upstream_failed(node);
        return;
    }
    memcpy(message, client->id, 2);
    reply_with(client, message, size);
    node_free(node);
}

/* Ask the servers from client->number on, until one can be asked. */
static void ask(struct client *client)
{
    struct endpoint to;
    struct stream *upstream;
    unsigned char *message = client->stream.in + 2;
    for (; client->number < SERVERS; client->number++) {
        if (!names_server(owner_id(&client->stream.node), client->number, &to))
            break;
        int fd = net_connect(&to, SOCK_STREAM);
        if (fd < 0 || !(upstream = node_new(sizeof *upstream, &client->stream.node, fd)))
            continue;
        upstream->node.gone = stream_gone;
        upstream->node.ready = upstream_ready;
        upstream->node.expired = upstream_failed;
        getrandom(message, 2, 0);
        if (!put(upstream, message, client->stream.in_size - 2)) {
            node_free(&upstream->node);
            continue;
        }
        node_deadline(&upstream->node, DNS_PATIENCE_MS);
        node_watch(&upstream->node, EPOLLOUT);
        return;
    }
    memcpy(message, client->id, 2);
    refuse(client, SERVFAIL);
}

static void listener_ready(struct node *node, uint32_t events)
{
    struct listener *listener = (struct listener *)node;
    int fd;
    (void)events;
    for (int i = 0; i < ACCEPTS && (fd = net_accept(node)) >= 0; i++) {
        if (listener->clients >= CLIENTS_EACH || clients >= CLIENTS) {
            close(fd);
            continue;
        }
        struct client *client = node_new(sizeof *client, node, fd);
        if (!client)
            return;
        listener->clients++;
        clients++;
        client->stream.node.gone = client_gone;
        client->stream.node.ready = client_ready;
        node_deadline(&client->stream.node, IDLE_MS);
        node_watch(&client->stream.node, EPOLLIN);
    }
}

int dns_tcp_start(struct item *item, int fd)
{
    struct listener *listener = node_new(sizeof *listener, &item->node, fd);
    if (!listener)
        return -1;
    listener->node.ready = listener_ready;
    node_watch(&listener->node, EPOLLIN);
    return 0;
}
