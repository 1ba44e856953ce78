/* What the daemon has written: zones/NETWORK, `network NAME`, then `NAME ADDRESS` lines; hosts/CONTAINER, lines
 *
 *     net NETWORK         its zones, the first one first
 *     server IP [PORT]    upstream servers, in order
 *     internal            ask no upstream server
 *
 * They are read at each question: they are small, in memory, and replaced as a whole by rename.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net_dns.h"

enum { WORDS = 3, WORD = 256, ANSWERS = 64 };

struct text {
    char *data, *at, *end;
};

struct line {
    char word[WORDS][WORD];
    int words;
};

static bool text_open(struct text *text, const char *folder, const char *name)
{
    char path[300];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = openat(NET_FOLDER, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    text->data = MAP_FAILED;
    if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0)
        text->data = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (fd >= 0)
        close(fd);
    if (text->data == MAP_FAILED)
        return false;
    text->at = text->data;
    text->end = text->data + st.st_size;
    return true;
}

static void text_close(struct text *text)
{
    munmap(text->data, text->end - text->data);
}

/* Words that are too long, or too many, are left out. */
static bool next_line(struct text *text, struct line *line)
{
    char *p = text->at, *end = p < text->end ? memchr(p, '\n', text->end - p) : NULL;
    if (!end)
        return false;
    text->at = end + 1;
    for (line->words = 0; p < end && line->words < WORDS; p++) {
        char *space = memchr(p, ' ', end - p), *stop = space ? space : end;
        if (stop - p < WORD) {
            memcpy(line->word[line->words], p, stop - p);
            line->word[line->words++][stop - p] = 0;
        }
        p = stop;
    }
    return true;
}

/* -- reverse names -- */

/* "4.3.2.1.in-addr.arpa" */
static bool reverse_v4(const char *name, unsigned char address[16])
{
    unsigned a, b, c, d;
    int used = 0;
    if (sscanf(name, "%3u.%3u.%3u.%3u.in-addr.arpa%n", &a, &b, &c, &d, &used) != 4 || !used || name[used] ||
        a > 255 || b > 255 || c > 255 || d > 255)
        return false;
    memcpy(address, (unsigned char[]){d, c, b, a}, 4);
    return true;
}

/* 32 nibbles, the last one first, then "ip6.arpa" */
static bool reverse_v6(const char *name, unsigned char address[16])
{
    if (strlen(name) != 72 || strcmp(name + 64, "ip6.arpa"))
        return false;
    memset(address, 0, 16);
    for (int i = 0; i < 32; i++) {
        const char *digits = "0123456789abcdef", *digit = strchr(digits, name[2 * i]);
        if (!digit || name[2 * i + 1] != '.')
            return false;
        address[15 - i / 2] |= (digit - digits) << (i % 2 ? 4 : 0);
    }
    return true;
}

/* -- looking up -- */

struct search {
    const struct question *question;
    int family;                  /* of the addresses that are asked for; 0 for none */
    unsigned char reverse[16];   /* the address whose name is asked for */
    int reverse_family;
    bool found;                  /* there is such a name */
    int count;                   /* of what there was; `answers` holds ANSWERS of them, chosen at random */
    unsigned char answers[ANSWERS][16];
    char pointer[2 * WORD];
};

static bool is_name(const struct search *search, const char *name, const char *network)
{
    const char *asked = search->question->name;
    size_t size = strlen(name);
    if (strncmp(asked, name, size))
        return false;
    return !asked[size] || (asked[size] == '.' && !strcasecmp(asked + size + 1, network));
}

static void take(struct search *search, const unsigned char address[16])
{
    int at = search->count++;
    if (at >= ANSWERS)
        at = net_random(at + 1);
    if (at < ANSWERS)
        memcpy(search->answers[at], address, 16);
}

static void look_at(struct search *search, const struct line *line, const char *network)
{
    unsigned char address[16];
    const char *name = line->word[0], *text = line->word[1];
    if (search->reverse_family) {
        if (inet_pton(search->reverse_family, text, address) == 1 &&
            !memcmp(address, search->reverse, search->reverse_family == AF_INET ? 4 : 16)) {
            search->found = true;
            snprintf(search->pointer, sizeof search->pointer, "%s.%s", name, network);
        }
    } else if (is_name(search, name, network)) {
        search->found = true;
        if (search->family && inet_pton(search->family, text, address) == 1)
            take(search, address);
    }
}

static bool is_done(const struct search *search)
{
    return search->count || search->pointer[0];
}

static void search_zone(struct search *search, const char *network_id)
{
    struct text text;
    struct line line;
    char network[WORD] = "";
    if (strchr(network_id, '/') || network_id[0] == '.' || !text_open(&text, "zones", network_id))
        return;
    if (next_line(&text, &line) && line.words == 2 && !strcmp(line.word[0], "network"))
        strcpy(network, line.word[1]);
    while (next_line(&text, &line) && !search->pointer[0])
        if (line.words == 2)
            look_at(search, &line, network);
    text_close(&text);
}

static void put_answers(struct search *search, struct reply *reply)
{
    int count = search->count < ANSWERS ? search->count : ANSWERS;
    if (search->pointer[0])
        reply_pointer(reply, search->pointer);
    for (; count; count--) {
        unsigned char *chosen = search->answers[net_random(count)];
        reply_address(reply, search->family, chosen);
        memcpy(chosen, search->answers[count - 1], 16);
    }
}

static bool search_begin(struct search *search, const struct question *question)
{
    memset(search, 0, offsetof(struct search, answers));
    search->pointer[0] = 0;
    search->question = question;
    search->family = question->type == TYPE_A ? AF_INET : question->type == TYPE_AAAA ? AF_INET6 : 0;
    if (question->type == TYPE_PTR && reverse_v4(question->name, search->reverse))
        search->reverse_family = AF_INET;
    else if (question->type == TYPE_PTR && reverse_v6(question->name, search->reverse))
        search->reverse_family = AF_INET6;
    return question->class == CLASS_IN && question->name[0];
}

bool names_answer(const char *id, const unsigned char *query, const struct question *question, size_t limit,
                  struct reply *reply)
{
    static struct search search;
    struct text text;
    struct line line;
    if (!search_begin(&search, question) || !text_open(&text, "hosts", id))
        return false;
    while (!is_done(&search) && next_line(&text, &line))
        if (line.words == 2 && !strcmp(line.word[0], "net"))
            search_zone(&search, line.word[1]);
    text_close(&text);
    if (!search.found)
        return false;
    reply_begin(reply, query, question, NOERROR, limit);
    put_answers(&search, reply);
    reply_end(reply);
    return true;
}

bool names_server(const char *id, int number, struct endpoint *server)
{
    struct text text;
    struct line line;
    bool found = false, internal = false;
    if (!text_open(&text, "hosts", id))
        return false;
    while (next_line(&text, &line)) {
        internal |= line.words == 1 && !strcmp(line.word[0], "internal");
        if (line.words < 2 || strcmp(line.word[0], "server") || found)
            continue;
        unsigned port = line.words == 3 ? strtoul(line.word[2], NULL, 10) : 53;
        found = endpoint_parse(server, line.word[1], port) && !number--;
    }
    text_close(&text);
    return found && !internal;
}
