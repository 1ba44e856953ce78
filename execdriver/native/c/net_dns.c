/* The DNS server at 127.0.0.11 of each container: answers from the zones, asks upstream servers for the rest.
 *
 * Over UDP each question that is passed on has a socket and an id of its own, so that an answer is hard to forge
 * (RFC 5452); it is given to the servers in turn, and what comes back is passed on as it is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "net_dns.h"
#include "net_dns_tcp.h"

enum { QUERIES = 1024, QUERIES_EACH = 100, SERVERS = 8, ROUNDS = 16 };

/* A container's UDP socket; its children are the questions that are on their way, the oldest first. */
struct server {
    struct node node;
    int queries;
};

struct query {
    struct node node;
    struct endpoint client;
    struct question question;
    int slot, number; /* of the upstream server that is being asked */
    unsigned char id[2];
    size_t size;
    unsigned char message[];
};

static struct query *queries[QUERIES]; /* of all containers */
static unsigned turn;

static void send_to(struct node *server, const struct endpoint *client, const void *data, size_t size)
{
    sendto(server->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT, (const void *)&client->address, client->size);
}

static void refuse(struct node *server, const struct endpoint *client, const unsigned char *message,
                   const struct question *question, int rcode)
{
    struct reply reply;
    reply_begin(&reply, message, question, rcode, question->limit);
    reply_end(&reply);
    send_to(server, client, reply.data, reply.size);
}

/* -- passing on -- */

static void query_gone(struct node *node)
{
    struct query *query = (struct query *)node;
    queries[query->slot] = NULL;
    ((struct server *)node->parent)->queries--;
}

static void give_up(struct query *query)
{
    memcpy(query->message, query->id, 2);
    refuse(query->node.parent, &query->client, query->message, &query->question, SERVFAIL);
    node_free(&query->node);
}

/* Ask the servers from query->number on, until one can be asked. */
static void ask(struct query *query)
{
    struct endpoint to;
    node_unwatch(&query->node);
    if (query->node.fd >= 0)
        close(query->node.fd);
    for (query->node.fd = -1; query->number < SERVERS; query->number++) {
        if (!names_server(owner_id(&query->node), query->number, &to))
            break;
        int fd = net_connect(&to, SOCK_DGRAM);
        if (fd < 0)
            continue;
        query->node.fd = fd;
        getrandom(query->message, 2, 0);
        if (send(fd, query->message, query->size, MSG_NOSIGNAL) < 0) {
            close(fd);
            query->node.fd = -1;
            continue;
        }
        node_watch(&query->node, EPOLLIN);
        node_deadline(&query->node, DNS_PATIENCE_MS);
        return;
    }
    give_up(query);
}

static void ask_next(struct node *node)
{
    struct query *query = (struct query *)node;
    query->number++;
    ask(query);
}

/* Whether another server may know better. */
static bool is_useless(const struct query *query, const unsigned char *reply)
{
    struct endpoint next;
    int rcode = reply[3] & 15;
    return (rcode == SERVFAIL || rcode == REFUSED) &&
           names_server(owner_id(&query->node), query->number + 1, &next);
}

static void query_ready(struct node *node, uint32_t events)
{
    struct query *query = (struct query *)node;
    ssize_t n = recv(node->fd, net_scratch, SCRATCH, 0);
    (void)events;
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            ask_next(node);
        return;
    }
    if (!reply_matches(query->message, query->question.end, net_scratch, n))
        return; /* forged, or nonsense: the right one may still come */
    if (is_useless(query, net_scratch)) {
        ask_next(node);
        return;
    }
    memcpy(net_scratch, query->id, 2);
    if (n > query->question.limit)
        n = reply_truncate(net_scratch, query->question.end);
    send_to(node->parent, &query->client, net_scratch, n);
    node_free(node);
}

/* A free place; where there is none, about the oldest question loses its. */
static int free_slot(void)
{
    for (int i = 0; i < QUERIES; i++)
        if (!queries[++turn % QUERIES])
            return turn % QUERIES;
    node_free(&queries[++turn % QUERIES]->node);
    return turn % QUERIES;
}

static void pass_on(struct server *server, const struct endpoint *client, const struct question *question,
                    const unsigned char *message, size_t size)
{
    if (server->queries >= QUERIES_EACH)
        node_free(server->node.first);
    int slot = free_slot();
    struct query *query = node_new(sizeof *query + size, &server->node, -1);
    if (!query)
        return;
    server->queries++;
    queries[slot] = query;
    query->node.gone = query_gone;
    query->node.ready = query_ready;
    query->node.expired = ask_next;
    query->client = *client;
    query->question = *question;
    query->slot = slot;
    query->size = size;
    memcpy(query->message, message, size);
    memcpy(query->id, message, 2);
    ask(query);
}

/* -- questions -- */

static void answer(struct server *server, const struct endpoint *client, const unsigned char *message, size_t size)
{
    struct question question;
    static struct reply reply;
    int rcode = question_parse(&question, message, size);
    if (rcode > 0)
        refuse(&server->node, client, message, &question, rcode);
    else if (rcode == NOERROR && names_answer(owner_id(&server->node), message, &question, question.limit, &reply))
        send_to(&server->node, client, reply.data, reply.size);
    else if (rcode == NOERROR)
        pass_on(server, client, &question, message, size);
}

static void server_ready(struct node *node, uint32_t events)
{
    (void)events;
    for (int i = 0; i < ROUNDS; i++) {
        struct endpoint client = {.size = sizeof client.address};
        ssize_t n = recvfrom(node->fd, net_scratch, DNS_QUERY, MSG_DONTWAIT | MSG_TRUNC, (void *)&client.address,
                             &client.size);
        if (n < 0)
            return;
        if (n <= DNS_QUERY)
            answer((struct server *)node, &client, net_scratch, n);
    }
}

int dns_start(struct item *item, int udp, int tcp)
{
    struct server *server = node_new(sizeof *server, &item->node, udp);
    if (!server) {
        close(tcp);
        return -1;
    }
    server->node.ready = server_ready;
    node_watch(&server->node, EPOLLIN);
    return dns_tcp_start(item, tcp);
}
