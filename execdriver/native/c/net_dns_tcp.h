/* DNS over TCP (RFC 7766). */
#ifndef WINDLASS_NET_DNS_TCP_H
#define WINDLASS_NET_DNS_TCP_H
#include "net.h"

enum { DNS_PATIENCE_MS = 2000 }; /* with each upstream server */

/* Serve a listening socket; takes it. Returns -1 with errno. */
int dns_tcp_start(struct item *item, int fd);

#endif
