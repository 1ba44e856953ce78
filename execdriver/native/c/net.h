/* windlass-shim net: what its files share.
 *
 * Everything the helper has is a tree of nodes: the root, an owner for each container, its items, their sessions.
 * Freeing a node frees what is below it, so no end is forgotten, whoever ends first.
 */
#ifndef WINDLASS_NET_H
#define WINDLASS_NET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { NET_CONTROL = 3, NET_FOLDER = 4 }; /* descriptors that the daemon gives us */
enum { SCRATCH = 65536, ID_SIZE = 129, KEY_SIZE = 96 };

struct node {
    int fd; /* its own; -1 for none */
    uint32_t events;
    bool registered, dead;
    void (*ready)(struct node *, uint32_t events);
    void (*expired)(struct node *); /* behind its deadline; NULL: it is freed */
    void (*gone)(struct node *);    /* is being freed: give back what only its kind knows of */
    int64_t deadline;               /* ms, 0 for none */
    struct node *parent, *first, *last, *next, *previous;
    struct node *timed_next, *timed_previous;
};

extern struct node net_root;                /* the owners' parent */
extern unsigned char net_scratch[SCRATCH];  /* for the length of one call */

/* A zeroed structure of `size` bytes that begins with a node, the last of its parent's.  It takes `fd`.
 * Returns NULL, and closes `fd`, when there is no memory. */
void *node_new(size_t size, struct node *parent, int fd);
void node_free(struct node *node); /* its memory stays until the loop's next round */
void node_touch(struct node *node); /* make it the last of its parent's */
void node_watch(struct node *node, uint32_t events); /* 0: errors and hang-ups only */
void node_unwatch(struct node *node);
void node_deadline(struct node *node, int64_t ms); /* from now; 0: none */

struct owner {
    struct node node;
    char id[ID_SIZE];
};

/* What a container has: its process, its names, its ports. */
struct item {
    struct node node;
    char key[KEY_SIZE]; /* "watch", "dns", or "PROTO HOSTIP HOSTPORT" */
};

struct endpoint {
    struct sockaddr_storage address;
    socklen_t size;
};

/* Returns false when `ip` is neither IPv4 nor IPv6. */
bool endpoint_parse(struct endpoint *endpoint, const char *ip, unsigned port);
const char *owner_id(const struct node *node); /* of the owner that the node hangs below */
unsigned net_random(unsigned below);
/* A non-blocking connection; the kernel chooses the port. Returns -1 with errno. */
int net_connect(const struct endpoint *to, int type);
/* Accept from a listener; runs out of descriptors without running in circles. Returns -1 when there is nothing. */
int net_accept(struct node *listener);

bool control_start(int fd);

/* Each takes the descriptors; returns -1 with errno when it cannot. */
int dns_start(struct item *item, int udp, int tcp);
int proxy_tcp_start(struct item *item, int fd, const struct endpoint *target);
int proxy_udp_start(struct item *item, int fd, const struct endpoint *target);

#endif
