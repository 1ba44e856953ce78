/* DNS messages (RFC 1035, 6891) and names: pure functions, with no socket. */
#ifndef WINDLASS_NET_DNS_H
#define WINDLASS_NET_DNS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net.h"

enum { DNS_HEADER = 12, DNS_NAME = 256, DNS_QUERY = 4096, DNS_PLAIN_LIMIT = 512, DNS_REPLY = 4096, DNS_TTL = 600 };
enum { TYPE_A = 1, TYPE_PTR = 12, TYPE_AAAA = 28, TYPE_OPT = 41, CLASS_IN = 1 };
enum { NOERROR = 0, FORMERR = 1, SERVFAIL = 2, NXDOMAIN = 3, NOTIMP = 4, REFUSED = 5, DROP = -1 };

struct question {
    char name[DNS_NAME]; /* lower case, no final dot; empty when no name of ours looks like that */
    uint16_t type, class;
    size_t end;     /* of the question in the message; DNS_HEADER when it cannot be read */
    uint16_t limit; /* bytes that the asker takes over UDP */
    bool edns;
};

struct reply {
    unsigned char data[DNS_REPLY];
    size_t size, limit, question;
    bool edns;
};

/* Read a query.  Returns NOERROR, the error to answer with, or DROP. */
int question_parse(struct question *question, const unsigned char *message, size_t size);

void reply_begin(struct reply *reply, const unsigned char *query, const struct question *question, int rcode,
                 size_t limit);
void reply_address(struct reply *reply, int family, const void *address);
void reply_pointer(struct reply *reply, const char *name);
void reply_end(struct reply *reply);

/* Whether `reply` answers the question that `query` asks. */
bool reply_matches(const unsigned char *query, size_t question_end, const unsigned char *reply, size_t size);
/* Leave header and question, and say that there is more. Returns the size. */
size_t reply_truncate(unsigned char *reply, size_t question_end);

/* Answer from the zones of the container `id`. Returns false when its networks have no such name. */
bool names_answer(const char *id, const unsigned char *query, const struct question *question, size_t limit,
                  struct reply *reply);
/* The upstream server of that number, from 0. Returns false when there is none, or `id` may ask none. */
bool names_server(const char *id, int number, struct endpoint *server);

#endif
