/* The tar reader; tar.h says what it takes. No allocation: one buffer for input, one for extended headers. */
#include "tar.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 512u
#define INPUT (1u << 20)

struct header { /* POSIX ustar */
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155], pad[12];
};

const char *tar_error;
static char input[INPUT], extended[TAR_PAX_MAX + 1];
static size_t start, end;        /* of what is in `input` and not consumed */
static uint64_t left, padding;   /* of the current entry's data */
static size_t extended_size;

static int refuse(const char *why)
{
    tar_error = why;
    return -1;
}

/* Read until `n` bytes are there, n <= INPUT. 1: there; 0: the stream ended before the first; -1: it was cut. */
static int fill(int fd, size_t n)
{
    if (end - start < n && start) {
        memmove(input, input + start, end - start);
        end -= start, start = 0;
    }
    while (end - start < n) {
        ssize_t got = read(fd, input + end, INPUT - end);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return refuse("the stream cannot be read");
        if (got == 0)
            return start == end ? 0 : refuse("the archive is cut short");
        end += (size_t)got;
    }
    return 1;
}

const void *tar_data(int fd, long *size)
{
    *size = 0;
    if (left == 0) {
        while (padding) {
            if (fill(fd, 1) != 1)
                return *size = refuse("the archive is cut short"), NULL;
            size_t n = end - start < padding ? end - start : (size_t)padding;
            start += n, padding -= n;
        }
        return NULL;
    }
    if (start == end && fill(fd, 1) != 1)
        return *size = refuse("the archive is cut short"), NULL;
    size_t n = end - start < left ? end - start : (size_t)left;
    const char *data = input + start;
    start += n, left -= n, *size = (long)n;
    return data;
}

void tar_drain(int fd)
{
    while (read(fd, input, sizeof input) > 0)
        ;
}

/* An octal or base-256 field. Returns 0, or -1 when it is neither, negative, or over 63 bits. */
static int number(const char *field, size_t n, uint64_t *value)
{
    const unsigned char *p = (const unsigned char *)field, *stop = p + n;
    uint64_t v = 0;
    if (*p & 0x80) {
        if (*p != 0x80)
            return -1; /* negative, or absurdly large */
        for (p++; p < stop; p++) {
            if (v >> 55)
                return -1;
            v = v << 8 | *p;
        }
        *value = v;
        return 0;
    }
    while (p < stop && *p == ' ')
        p++;
    for (; p < stop && *p >= '0' && *p <= '7'; p++) {
        if (v >> 60)
            return -1;
        v = v << 3 | (uint64_t)(*p - '0');
    }
    for (; p < stop; p++)
        if (*p && *p != ' ')
            return -1;
    *value = v;
    return 0;
}

static int checksum_is_right(const struct header *h)
{
    uint64_t stated;
    uint32_t sum = 8 * ' ';
    const unsigned char *p = (const unsigned char *)h;
    for (size_t i = 0; i < BLOCK; i++)
        if (i < offsetof(struct header, checksum) || i >= offsetof(struct header, type))
            sum += p[i];
    return !number(h->checksum, sizeof h->checksum, &stated) && stated == sum;
}

static int is_zero(const char *block)
{
    for (size_t i = 0; i < BLOCK; i++)
        if (block[i])
            return 0;
    return 1;
}

/* Copy at most `n` bytes of a field that need not end by NUL. -1 when it does not fit into a path. */
static int text(char to[TAR_PATH_MAX], const char *from, size_t n)
{
    size_t length = strnlen(from, n);
    if (length >= TAR_PATH_MAX)
        return refuse("a path is too long");
    memcpy(to, from, length);
    to[length] = 0;
    return 0;
}

static int name_of(const struct header *h, struct tar_entry *e)
{
    size_t prefix = memcmp(h->magic, "ustar\0", 6) ? 0 : strnlen(h->prefix, sizeof h->prefix);
    size_t name = strnlen(h->name, sizeof h->name);
    memcpy(e->path, h->prefix, prefix);
    if (prefix)
        e->path[prefix++] = '/';
    memcpy(e->path + prefix, h->name, name);
    e->path[prefix + name] = 0;
    return text(e->link, h->link, sizeof h->link);
}

/* Read an extended header's data behind what is in `extended` already; NUL after it. */
static int read_extended(int fd, size_t *from)
{
    long n;
    const void *data;
    *from = extended_size;
    if (left > TAR_PAX_MAX - extended_size)
        return refuse("an extended header is too long");
    while ((data = tar_data(fd, &n))) {
        memcpy(extended + extended_size, data, (size_t)n);
        extended_size += (size_t)n;
    }
    if (n < 0)
        return -1;
    if (extended_size < TAR_PAX_MAX)
        extended[extended_size++] = 0;
    return 0;
}

static int decimal(const char *s, const char *stop, uint64_t *value)
{
    uint64_t v = 0;
    if (s == stop)
        return -1;
    for (; s < stop; s++) {
        if (*s < '0' || *s > '9' || v > (INT64_MAX - 9) / 10)
            return -1;
        v = v * 10 + (uint64_t)(*s - '0');
    }
    *value = v;
    return 0;
}

static int pax_time(const char *s, const char *stop, struct tar_entry *e)
{
    const char *dot = memchr(s, '.', (size_t)(stop - s));
    uint64_t v, scale = 100000000;
    if (*s == '-') { /* before 1970: no file system of ours needs it */
        e->mtime = 0, e->mtime_ns = 0;
        return 0;
    }
    if (decimal(s, dot ? dot : stop, &v))
        return refuse("a time in an extended header is no number");
    e->mtime = (int64_t)v, e->mtime_ns = 0;
    for (const char *p = dot ? dot + 1 : stop; p < stop && *p >= '0' && *p <= '9' && scale; p++, scale /= 10)
        e->mtime_ns += (uint32_t)((uint64_t)(*p - '0') * scale);
    return 0;
}

static int pax_number(const char *s, const char *stop, uint64_t limit, uint64_t *value)
{
    return decimal(s, stop, value) || *value > limit ? refuse("a number in an extended header is out of range") : 0;
}

/* One `KEY=VALUE` of an extended header; `value` runs to `stop`, where a newline was and a NUL is now. */
static int pax_record(const char *key, char *value, char *stop, struct tar_entry *e)
{
    uint64_t v;
    if (!strcmp(key, "path") || !strcmp(key, "linkpath")) {
        if (strlen(value) != (size_t)(stop - value))
            return refuse("a path has a NUL byte in it");
        return text(*key == 'p' ? e->path : e->link, value, (size_t)(stop - value) + 1);
    }
    if (!strcmp(key, "size"))
        return pax_number(value, stop, INT64_MAX, &e->size);
    if (!strcmp(key, "uid") || !strcmp(key, "gid")) {
        if (pax_number(value, stop, UINT32_MAX - 1, &v))
            return -1;
        *(*key == 'u' ? &e->uid : &e->gid) = (uint32_t)v;
    } else if (!strcmp(key, "mtime"))
        return pax_time(value, stop, e);
    else if (!strncmp(key, "GNU.sparse.", 11))
        return refuse("sparse files are not supported");
    else if (!strncmp(key, "SCHILY.xattr.", 13) && e->nxattrs < TAR_XATTRS)
        e->xattrs[e->nxattrs++] = (struct tar_xattr){key + 13, value, (size_t)(stop - value)};
    return 0;
}

/* Records are "LENGTH KEY=VALUE\n"; LENGTH counts itself. */
static int pax(char *p, char *stop, struct tar_entry *e)
{
    while (p < stop) {
        uint64_t length;
        char *space = memchr(p, ' ', (size_t)(stop - p) < 20 ? (size_t)(stop - p) : 20);
        if (!space || decimal(p, space, &length) || length > (uint64_t)(stop - p) || length < (uint64_t)(space - p) + 4)
            return refuse("an extended header is malformed");
        char *last = p + length - 1, *key = space + 1, *equals = memchr(key, '=', (size_t)(last - key));
        if (*last != '\n' || !equals || equals == key)
            return refuse("an extended header is malformed");
        *equals = *last = 0;
        if (pax_record(key, equals + 1, last, e))
            return -1;
        p += length;
    }
    return 0;
}

static int numbers(const struct header *h, struct tar_entry *e)
{
    uint64_t mode, uid, gid, major, minor, mtime;
    if (number(h->size, sizeof h->size, &e->size))
        return refuse("a size is no number");
    if (number(h->mode, sizeof h->mode, &mode) || number(h->uid, sizeof h->uid, &uid) ||
        number(h->gid, sizeof h->gid, &gid) || uid >= UINT32_MAX || gid >= UINT32_MAX)
        return refuse("a mode or an owner is out of range");
    if (number(h->mtime, sizeof h->mtime, &mtime))
        mtime = 0;
    if ((h->type == '3' || h->type == '4') &&
        (number(h->major, sizeof h->major, &major) || number(h->minor, sizeof h->minor, &minor) || major > 0xfff ||
         minor > 0xfffff))
        return refuse("a device number is out of range");
    if (h->type == '3' || h->type == '4')
        e->major = (uint32_t)major, e->minor = (uint32_t)minor;
    e->mode = mode & 07777, e->uid = (uint32_t)uid, e->gid = (uint32_t)gid, e->mtime = (int64_t)mtime, e->mtime_ns = 0;
    return 0;
}

/* Long names and extended headers stand before the entry that they are about. */
struct before {
    char *name, *link, *pax, *pax_end;
};

static int keep(int fd, char type, struct before *b)
{
    size_t from;
    if (read_extended(fd, &from))
        return -1;
    char *data = extended + from, *stop = extended + extended_size - 1;
    if (type == 'L')
        b->name = data;
    else if (type == 'K')
        b->link = data;
    else if (type == 'x')
        b->pax = data, b->pax_end = stop;
    return 0; /* 'g', a header for all that follows, says nothing about a file that we need */
}

static int finish(const struct header *h, struct before *b, struct tar_entry *e)
{
    e->nxattrs = 0, e->major = e->minor = 0;
    e->type = h->type == 0 || h->type == '7' ? '0' : h->type;
    if (numbers(h, e) || name_of(h, e))
        return -1;
    if ((b->name && text(e->path, b->name, TAR_PATH_MAX)) || (b->link && text(e->link, b->link, TAR_PATH_MAX)))
        return -1;
    if (b->pax && pax(b->pax, b->pax_end, e))
        return -1;
    if (e->type == '0' && e->path[0] && e->path[strlen(e->path) - 1] == '/')
        e->type = '5'; /* v7 tar */
    if (e->type != '0')
        e->size = 0; /* the other types have no data, whatever their headers say */
    left = e->size, padding = (BLOCK - e->size % BLOCK) % BLOCK;
    return 1;
}

int tar_next(int fd, struct tar_entry *entry)
{
    struct before before = {0};
    for (extended_size = 0;;) {
        struct header h;
        int r = fill(fd, BLOCK);
        if (r <= 0)
            return r;
        memcpy(&h, input + start, BLOCK);
        start += BLOCK;
        if (is_zero((char *)&h))
            return 0;
        if (!checksum_is_right(&h))
            return refuse("a header's checksum is wrong: this is no tar archive, or a damaged one");
        if (!memchr("LKxg", h.type, 4) || !h.type)
            return finish(&h, &before, entry);
        if (number(h.size, sizeof h.size, &left))
            return refuse("a size is no number");
        padding = (BLOCK - left % BLOCK) % BLOCK;
        if (keep(fd, h.type, &before))
            return -1;
    }
}
