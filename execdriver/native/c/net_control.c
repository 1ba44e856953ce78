/* What daemons ask of the helper: one datagram a request, ASCII words, descriptors beside it; one datagram back.
 *
 *     version                                   ok PROTOCOL PID
 *     watch ID                     pidfd        when that process ends, everything of ID does
 *     dns ID                       udp, tcp     answer names there; both live in the container's namespace
 *     hold ID PROTO IP PORT        socket       keep a bound socket open: the port is taken
 *     proxy ID PROTO IP PORT TARGETIP TARGETPORT   socket   carry what comes there to the target
 *     release ID [PROTO IP PORT]                close everything of ID, or that port
 *     list                                      ok ID ..., several of them, and at last `end`
 *
 * What is asked for twice replaces what was there; what is released need not be there.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net.h"
#include "sys.h"

enum { PROTOCOL = 1, REQUEST = 512, WORDS = 8, FDS = 2, CONNECTIONS = 16, ITEMS = 16384, PATIENCE = 200 };

struct request {
    char text[REQUEST];
    char *word[WORDS];
    int words;
    int fd[FDS]; /* -1 for none, and for one that has been taken */
    int fds;
};

static int connections, items;
static struct node control_root = {.fd = -1};

/* -- owners and items -- */

static struct owner *owner_find(const char *id)
{
    for (struct node *node = net_root.first; node; node = node->next)
        if (!strcmp(((struct owner *)node)->id, id))
            return (struct owner *)node;
    return NULL;
}

static struct item *item_find(struct owner *owner, const char *key)
{
    for (struct node *node = owner->node.first; node; node = node->next)
        if (!strcmp(((struct item *)node)->key, key))
            return (struct item *)node;
    return NULL;
}

static void item_gone(struct node *node)
{
    (void)node;
    items--;
}

static void owner_free_empty(struct owner *owner)
{
    if (!owner->node.first)
        node_free(&owner->node);
}

/* The new item called `key`; an earlier one is gone.  It takes request->fd[0] when `takes`. */
static struct item *item_new(struct request *request, const char *key, bool takes)
{
    struct owner *owner = owner_find(request->word[1]);
    errno = EMFILE;
    if (items >= ITEMS || (!owner && !(owner = node_new(sizeof *owner, &net_root, -1))))
        return NULL;
    strcpy(owner->id, request->word[1]);
    struct item *old = item_find(owner, key);
    if (old)
        node_free(&old->node);
    struct item *item = node_new(sizeof *item, &owner->node, takes ? request->fd[0] : -1);
    if (takes)
        request->fd[0] = -1;
    if (!item) {
        owner_free_empty(owner);
        return NULL;
    }
    items++;
    item->node.gone = item_gone;
    strcpy(item->key, key);
    return item;
}

static int item_fail(struct item *item)
{
    int saved = errno;
    struct owner *owner = (struct owner *)item->node.parent;
    node_free(&item->node);
    owner_free_empty(owner);
    errno = saved;
    return -1;
}

/* -- the verbs: each returns 0, or -1 with errno -- */

static bool is_socket(int fd, int type, int listens)
{
    int value;
    socklen_t size = sizeof value;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) || value != type ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) || value != listens)
        return errno = EPROTOTYPE, false;
    return !fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
}

static bool port_key(const struct request *request, char key[KEY_SIZE])
{
    int n = snprintf(key, KEY_SIZE, "%s %s %s", request->word[2], request->word[3], request->word[4]);
    return n < KEY_SIZE;
}

static void process_ended(struct node *node, uint32_t events)
{
    (void)events;
    node_free(node->parent);
}

static int verb_watch(struct request *request)
{
    struct item *item = item_new(request, "watch", true);
    if (!item)
        return -1;
    item->node.ready = process_ended;
    node_watch(&item->node, EPOLLIN);
    return 0;
}

static int verb_dns(struct request *request)
{
    if (!is_socket(request->fd[0], SOCK_DGRAM, 0) || !is_socket(request->fd[1], SOCK_STREAM, 1))
        return -1;
    struct item *item = item_new(request, "dns", false);
    if (!item)
        return -1;
    int udp = request->fd[0], tcp = request->fd[1];
    request->fd[0] = request->fd[1] = -1;
    return dns_start(item, udp, tcp) ? item_fail(item) : 0;
}

static int verb_hold(struct request *request)
{
    char key[KEY_SIZE];
    errno = EINVAL;
    return port_key(request, key) && item_new(request, key, true) ? 0 : -1;
}

static int verb_proxy(struct request *request)
{
    char key[KEY_SIZE];
    struct endpoint target;
    bool tcp = !strcmp(request->word[2], "tcp");
    errno = EINVAL;
    if (!port_key(request, key) || (!tcp && strcmp(request->word[2], "udp")) ||
        !endpoint_parse(&target, request->word[5], strtoul(request->word[6], NULL, 10)))
        return -1;
    if (!is_socket(request->fd[0], tcp ? SOCK_STREAM : SOCK_DGRAM, tcp))
        return -1;
    struct item *item = item_new(request, key, false);
    if (!item)
        return -1;
    int fd = request->fd[0];
    request->fd[0] = -1;
    return (tcp ? proxy_tcp_start : proxy_udp_start)(item, fd, &target) ? item_fail(item) : 0;
}

static int verb_release(struct request *request)
{
    char key[KEY_SIZE];
    struct owner *owner = owner_find(request->word[1]);
    if (request->words == 2) {
        if (owner)
            node_free(&owner->node);
        return 0;
    }
    errno = EINVAL;
    if (request->words != 5 || !port_key(request, key))
        return -1;
    struct item *item = owner ? item_find(owner, key) : NULL;
    if (item) {
        node_free(&item->node);
        owner_free_empty(owner);
    }
    return 0;
}

static const struct {
    const char *name;
    int least, most, fds;
    int (*run)(struct request *);
} verbs[] = {
    {"watch", 2, 2, 1, verb_watch}, {"dns", 2, 2, 2, verb_dns},         {"hold", 5, 5, 1, verb_hold},
    {"proxy", 7, 7, 1, verb_proxy}, {"release", 2, 5, 0, verb_release},
};

/* -- the wire -- */

static void answer(struct node *connection, const char *text, size_t size)
{
    for (int tries = 0; tries < 2; tries++) {
        if (send(connection->fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            return;
        if (errno != EAGAIN || poll(&(struct pollfd){connection->fd, POLLOUT, 0}, 1, PATIENCE) <= 0)
            break;
    }
    node_free(connection); /* it does not read: it asks again when it comes back */
}

static void answer_list(struct node *connection)
{
    char *text = (char *)net_scratch;
    struct node *node = net_root.first;
    do {
        size_t size = sprintf(text, "ok");
        for (; node && size + ID_SIZE + 1 < SCRATCH / 2; node = node->next)
            size += sprintf(text + size, " %s", ((struct owner *)node)->id);
        answer(connection, text, size);
    } while (node && !connection->dead);
    if (!connection->dead)
        answer(connection, "end", 3);
}

static bool is_id(const char *text)
{
    size_t size = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return isalnum((unsigned char)text[0]) && !text[size] && size < ID_SIZE;
}

static int run(struct request *request)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].name, request->word[0]))
            continue;
        errno = EINVAL;
        if (request->words < verbs[i].least || request->words > verbs[i].most || request->fds != verbs[i].fds ||
            !is_id(request->word[1]))
            return -1;
        return verbs[i].run(request);
    }
    errno = ENOSYS;
    return -1;
}

static void obey(struct node *connection, struct request *request)
{
    char text[REQUEST];
    if (request->words == 1 && !strcmp(request->word[0], "list")) {
        answer_list(connection);
        return;
    }
    int size = sprintf(text, "ok %d %d", PROTOCOL, getpid());
    if (request->words != 1 || strcmp(request->word[0], "version"))
        size = run(request) ? snprintf(text, sizeof text, "error %d %s", errno, strerror(errno)) : 2;
    answer(connection, text, size);
}

static void take_rights(struct msghdr *message, struct request *request)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        int count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (int i = 0; i < count; i++, request->fds++) {
            int fd;
            memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
            if (request->fds < FDS)
                request->fd[request->fds] = fd;
            else
                close(fd);
        }
    }
}

static void split(struct request *request, size_t size)
{
    char *rest = request->text, *word;
    request->text[size] = 0;
    if (strlen(rest) != size)
        return; /* a zero byte: no word of ours */
    while ((word = strsep(&rest, " ")) && request->words < WORDS)
        request->word[request->words++] = word;
    if (word)
        request->words = 0; /* more words than any verb has */
}

static void connection_ready(struct node *connection, uint32_t events)
{
    struct request request = {.fd = {-1, -1}};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE((FDS + 1) * sizeof(int))];
    } rights;
    struct iovec part = {request.text, sizeof request.text - 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    (void)events;
    ssize_t n = recvmsg(connection->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            node_free(connection);
        return;
    }
    take_rights(&message, &request);
    if (!(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        split(&request, n);
    if (!request.words) {
        request.words = 1;
        request.word[0] = "";
    }
    obey(connection, &request);
    for (int i = 0; i < FDS; i++)
        if (request.fd[i] >= 0)
            close(request.fd[i]);
}

static void connection_gone(struct node *node)
{
    (void)node;
    connections--;
}

static void listener_ready(struct node *listener, uint32_t events)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    int fd = net_accept(listener);
    (void)events;
    if (fd < 0)
        return;
    if (connections >= CONNECTIONS || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) || peer.uid) {
        close(fd);
        return;
    }
    struct node *connection = node_new(sizeof *connection, &control_root, fd);
    if (!connection)
        return;
    connections++;
    connection->gone = connection_gone;
    connection->ready = connection_ready;
    node_watch(connection, EPOLLIN);
}

bool control_start(int fd)
{
    struct node *listener = node_new(sizeof *listener, &control_root, fd);
    if (!listener || fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK))
        return false;
    listener->ready = listener_ready;
    node_watch(listener, EPOLLIN);
    return true;
}
