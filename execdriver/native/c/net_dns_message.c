/* Read questions, write answers: every byte that is read has been counted first. */
#define _GNU_SOURCE
#include <string.h>

#include "net_dns.h"

enum { QR = 0x80, OPCODE = 0x78, TC = 0x02, RD = 0x01, RA = 0x80, CD = 0x10, OPT_SIZE = 11, LABEL = 63 };

static unsigned get16(const unsigned char *p)
{
    return p[0] << 8 | p[1];
}

static void put16(unsigned char *p, unsigned value)
{
    p[0] = value >> 8;
    p[1] = value;
}

static unsigned lower(unsigned c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* Read the name behind the header into `name`. Returns where it ends, or 0. Nothing may be compressed there. */
static size_t read_name(char name[DNS_NAME], const unsigned char *message, size_t size)
{
    size_t at = DNS_HEADER, used = 0;
    bool odd = false;
    for (;;) {
        unsigned length = at < size ? message[at++] : LABEL + 1;
        if (length > LABEL || length > size - at || at + length - DNS_HEADER > 254 + !length)
            return 0;
        if (!length)
            break;
        if (used)
            name[used++] = '.';
        for (; length; length--, at++) {
            unsigned c = lower(message[at]);
            odd |= c <= ' ' || c == '.';
            name[used++] = c;
        }
    }
    name[odd ? 0 : used] = 0;
    return at;
}

/* Step over a name that may be compressed. Returns where it ends, or 0. */
static size_t skip_name(const unsigned char *message, size_t size, size_t at)
{
    while (at < size) {
        unsigned length = message[at++];
        if (!length)
            return at;
        if (length >= 0xc0)
            return at < size ? at + 1 : 0;
        if (length > LABEL)
            return 0;
        at += length;
    }
    return 0;
}

/* Look for the OPT record behind the question. Returns false when the records cannot be read. */
static bool read_options(struct question *question, const unsigned char *message, size_t size)
{
    size_t at = question->end;
    unsigned records = get16(message + 6) + get16(message + 8) + get16(message + 10);
    for (; records; records--) {
        at = skip_name(message, size, at);
        if (!at || size - at < 10)
            return false;
        if (get16(message + at) == TYPE_OPT) {
            question->edns = true;
            if (get16(message + at + 2) > DNS_PLAIN_LIMIT)
                question->limit = get16(message + at + 2);
        }
        size_t data = get16(message + at + 8);
        at += 10;
        if (size - at < data)
            return false;
        at += data;
    }
    return true;
}

int question_parse(struct question *question, const unsigned char *message, size_t size)
{
    memset(question, 0, sizeof *question);
    question->end = DNS_HEADER;
    question->limit = DNS_PLAIN_LIMIT;
    if (size < DNS_HEADER || message[2] & QR)
        return DROP;
    if (message[2] & OPCODE)
        return NOTIMP;
    size_t at = get16(message + 4) == 1 ? read_name(question->name, message, size) : 0;
    if (!at || size - at < 4)
        return FORMERR;
    question->type = get16(message + at);
    question->class = get16(message + at + 2);
    question->end = at + 4;
    return read_options(question, message, size) ? NOERROR : FORMERR;
}

void reply_begin(struct reply *reply, const unsigned char *query, const struct question *question, int rcode,
                 size_t limit)
{
    unsigned char *p = reply->data;
    reply->edns = question->edns;
    reply->question = reply->size = question->end;
    reply->limit = (limit < DNS_REPLY ? limit : DNS_REPLY) - (reply->edns ? OPT_SIZE : 0);
    memcpy(p, query, reply->size);
    p[2] = QR | (query[2] & (OPCODE | RD));
    p[3] = RA | (query[3] & CD) | rcode;
    memset(p + 4, 0, DNS_HEADER - 4);
    put16(p + 4, question->end > DNS_HEADER);
}

/* One more record, for the question's own name. */
static void put_record(struct reply *reply, unsigned type, const void *data, size_t size)
{
    if (reply->size + 12 + size > reply->limit) {
        reply->data[2] |= TC;
        return;
    }
    unsigned char *p = reply->data + reply->size;
    put16(p, 0xc000 | DNS_HEADER);
    put16(p + 2, type);
    put16(p + 4, CLASS_IN);
    put16(p + 6, 0);
    put16(p + 8, DNS_TTL);
    put16(p + 10, size);
    memcpy(p + 12, data, size);
    reply->size += 12 + size;
    put16(reply->data + 6, get16(reply->data + 6) + 1);
}

void reply_address(struct reply *reply, int family, const void *address)
{
    put_record(reply, family == AF_INET ? TYPE_A : TYPE_AAAA, address, family == AF_INET ? 4 : 16);
}

void reply_pointer(struct reply *reply, const char *name)
{
    unsigned char data[DNS_NAME];
    size_t used = 0;
    while (*name) {
        size_t length = strcspn(name, ".");
        if (!length || length > LABEL || used + length + 2 > 255)
            return; /* a name that DNS cannot say */
        data[used++] = length;
        memcpy(data + used, name, length);
        used += length;
        name += length + (name[length] == '.');
    }
    data[used++] = 0;
    put_record(reply, TYPE_PTR, data, used);
}

void reply_end(struct reply *reply)
{
    static const unsigned char options[OPT_SIZE] = {0, 0, TYPE_OPT, DNS_REPLY >> 8, DNS_REPLY & 0xff};
    if (!reply->edns)
        return;
    memcpy(reply->data + reply->size, options, OPT_SIZE);
    reply->size += OPT_SIZE;
    put16(reply->data + 10, 1);
}

bool reply_matches(const unsigned char *query, size_t question_end, const unsigned char *reply, size_t size)
{
    if (size < question_end || memcmp(query, reply, 2) || !(reply[2] & QR) || get16(reply + 4) != 1)
        return false;
    for (size_t i = DNS_HEADER; i < question_end; i++)
        if (lower(query[i]) != lower(reply[i]))
            return false;
    return true;
}

size_t reply_truncate(unsigned char *reply, size_t question_end)
{
    reply[2] |= TC;
    memset(reply + 6, 0, 6);
    return question_end;
}
