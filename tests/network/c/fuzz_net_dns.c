/* Feed damaged queries to the reader of DNS messages, and damaged answers to its judge: fuzz_net_dns SEED ROUNDS.
 *
 * The current directory has zones/ and hosts/box.  Each message stands at the end of an allocation of its size.
 * Prints how many were read, and how many of these found an answer.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <unistd.h>

#include "../../../execdriver/native/c/net_dns.h"

static unsigned long state;

static unsigned chance(unsigned below)
{
    state = state * 6364136223846793005ul + 1442695040888963407ul;
    return (unsigned)(state >> 33) % below;
}

unsigned net_random(unsigned below)
{
    return chance(below);
}

bool endpoint_parse(struct endpoint *endpoint, const char *ip, unsigned port)
{
    (void)port;
    endpoint->size = sizeof(struct sockaddr_in);
    return inet_pton(AF_INET, ip, &endpoint->address) == 1;
}

static size_t put_name(unsigned char *out, const char *name)
{
    size_t used = 0;
    while (*name) {
        size_t length = strcspn(name, ".");
        out[used++] = length;
        memcpy(out + used, name, length);
        used += length;
        name += length + (name[length] == '.');
    }
    out[used++] = 0;
    return used;
}

static size_t make(unsigned char *out)
{
    static const char *const names[] = {"web", "Web.Blue", "v6", "3.0.1.10.in-addr.arpa", "many", "example.com", "",
        "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
        "a2345678901234567890123456789012345678901234567890123456789012.b2345678901234567890123456789012345678901234567"
        ".c2345678901234567890123456789012345678901234567890123456789012.d2345678901234567890123456789012345678901234"};
    static const unsigned char types[] = {1, 12, 28, 16, 255}, options[] = {0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 9, 0, 0};
    unsigned char head[12] = {1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, chance(2)};
    size_t size = sizeof head;
    memcpy(out, head, size);
    size += put_name(out + size, names[chance(sizeof names / sizeof *names)]);
    memcpy(out + size, (unsigned char[]){0, types[chance(5)], 0, 1}, 4);
    size += 4;
    memcpy(out + size, options, sizeof options);
    return size + sizeof options;
}

static size_t damage(unsigned char *out, size_t size)
{
    for (unsigned changes = chance(4); changes; changes--)
        out[chance(size)] = chance(2) ? (unsigned char[]){0, 63, 64, 192, 255, 12, 1, '.'}[chance(8)] : chance(256);
    return chance(3) ? size : chance(size + 1);
}

int main(int argc, char **argv)
{
    long read = 0, found = 0;
    static unsigned char draft[2048];
    static struct reply reply;
    struct endpoint server;
    if (argc != 3 || dup2(open(".", O_RDONLY | O_DIRECTORY), NET_FOLDER) < 0)
        return 2;
    state = strtoul(argv[1], NULL, 10);
    for (long rounds = atol(argv[2]); rounds; rounds--) {
        struct question question;
        size_t size = damage(draft, make(draft));
        unsigned char *message = malloc(size);
        memcpy(message, draft, size);
        int rcode = question_parse(&question, message, size);
        size_t limit = chance(2) ? question.limit : 65535;
        if (rcode >= 0) {
            reply_begin(&reply, message, &question, rcode, limit);
            reply_end(&reply);
        }
        if (rcode == NOERROR) {
            read++;
            found += names_answer("box", message, &question, limit, &reply);
            names_server("box", chance(4), &server);
        }
        if (rcode >= 0 && reply.size > limit)
            abort();
        if (rcode == NOERROR) {
            reply.size = damage(reply.data, reply.size);
            unsigned char *answer = malloc(reply.size);
            memcpy(answer, reply.data, reply.size);
            if (reply_matches(message, question.end, answer, reply.size))
                reply_truncate(answer, question.end);
            free(answer);
        }
        free(message);
    }
    printf("%ld %ld\n", read, found);
    return 0;
}
