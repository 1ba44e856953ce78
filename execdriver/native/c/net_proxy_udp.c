/* A published UDP port that the kernel cannot translate: a socket to the container for each client that speaks.
 *
 * The sessions of a port are its node's children, the one that was used last at the end: the first is the one to go.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net.h"

enum { SESSIONS = 256, IDLE_MS = 90000, ROUNDS = 16 };

struct port {
    struct node node;
    struct endpoint target;
    int sessions;
};

/* The address of ours that a client wrote to: answers must come from there. */
union local {
    struct in_pktinfo v4;
    struct in6_pktinfo v6;
};

struct session {
    struct node node;
    struct endpoint client;
    union local local;
};

union local_control {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(union local))];
};

static void session_gone(struct node *node)
{
    ((struct port *)node->parent)->sessions--;
}

/* The interface is left out: routes decide, as they do for the kernel's own answers. */
static bool take_local(struct msghdr *message, union local *local)
{
    memset(local, 0, sizeof *local);
    struct cmsghdr *head = CMSG_FIRSTHDR(message);
    if (!head)
        return false;
    if (head->cmsg_level == IPPROTO_IPV6 && head->cmsg_type == IPV6_PKTINFO) {
        memcpy(&local->v6, CMSG_DATA(head), sizeof local->v6);
        local->v6.ipi6_ifindex = 0;
        return !IN6_IS_ADDR_MULTICAST(&local->v6.ipi6_addr);
    }
    if (head->cmsg_level == IPPROTO_IP && head->cmsg_type == IP_PKTINFO) {
        memcpy(&local->v4, CMSG_DATA(head), sizeof local->v4);
        local->v4.ipi_ifindex = 0;
        local->v4.ipi_addr.s_addr = 0;
        return true;
    }
    return false;
}

static void send_back(struct session *session, size_t size)
{
    bool v6 = session->client.address.ss_family == AF_INET6;
    size_t length = v6 ? sizeof session->local.v6 : sizeof session->local.v4;
    union local_control control = {.head = {.cmsg_len = CMSG_LEN(length),
                                            .cmsg_level = v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                                            .cmsg_type = v6 ? IPV6_PKTINFO : IP_PKTINFO}};
    struct iovec part = {net_scratch, size};
    struct msghdr message = {.msg_name = &session->client.address, .msg_namelen = session->client.size,
                             .msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = &control, .msg_controllen = CMSG_SPACE(length)};
    memcpy(CMSG_DATA(&control.head), &session->local, length);
    sendmsg(session->node.parent->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void used(struct session *session)
{
    node_touch(&session->node);
    node_deadline(&session->node, IDLE_MS);
}

static void session_ready(struct node *node, uint32_t events)
{
    (void)events;
    for (int i = 0; i < ROUNDS; i++) {
        ssize_t n = recv(node->fd, net_scratch, SCRATCH, 0);
        if (n < 0)
            return; /* also an ICMP error: the next packet may find somebody */
        send_back((struct session *)node, n);
        used((struct session *)node);
    }
}

static struct session *session_of(struct port *port, const struct endpoint *client, const union local *local)
{
    for (struct node *node = port->node.last; node; node = node->previous) {
        struct session *session = (struct session *)node;
        if (session->client.size == client->size && !memcmp(&session->client.address, &client->address, client->size) &&
            !memcmp(&session->local, local, sizeof *local))
            return session;
    }
    if (port->sessions >= SESSIONS)
        node_free(port->node.first);
    int fd = net_connect(&port->target, SOCK_DGRAM);
    struct session *session = fd < 0 ? NULL : node_new(sizeof *session, &port->node, fd);
    if (!session)
        return NULL;
    port->sessions++;
    session->client = *client;
    session->local = *local;
    session->node.gone = session_gone;
    session->node.ready = session_ready;
    node_watch(&session->node, EPOLLIN);
    return session;
}

static void port_ready(struct node *node, uint32_t events)
{
    (void)events;
    for (int i = 0; i < ROUNDS; i++) {
        struct endpoint client = {0};
        union local local;
        union local_control control;
        struct iovec part = {net_scratch, SCRATCH};
        struct msghdr message = {.msg_name = &client.address, .msg_namelen = sizeof client.address,
                                 .msg_iov = &part, .msg_iovlen = 1,
                                 .msg_control = &control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(node->fd, &message, MSG_DONTWAIT);
        if (n < 0)
            return;
        client.size = message.msg_namelen;
        if (!take_local(&message, &local))
            continue;
        struct session *session = session_of((struct port *)node, &client, &local);
        if (!session)
            continue;
        used(session);
        if (send(session->node.fd, net_scratch, n, MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED)
            send(session->node.fd, net_scratch, n, MSG_NOSIGNAL); /* that was an earlier packet's error */
    }
}

int proxy_udp_start(struct item *item, int fd, const struct endpoint *target)
{
    int one = 1;
    struct port *port = node_new(sizeof *port, &item->node, fd);
    if (!port)
        return -1;
    if (setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one) &&
        setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one))
        return -1;
    port->target = *target;
    port->node.ready = port_ready;
    node_watch(&port->node, EPOLLIN);
    return 0;
}
