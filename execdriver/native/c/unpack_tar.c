/* The tar reader; unpack_tar.h says what it takes. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "unpack_tar.h"

enum { BLOCK = 512 };
static const int64_t SIZE_MAX_FILE = 1LL << 44; /* 16 TiB, the most that ext4 keeps in one file */

struct header { /* POSIX ustar; GNU's differs in magic, and in what follows devminor */
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155], padding[12];
};

static int refuse(struct tar *tar, const char *sentence)
{
    tar->error = sentence;
    errno = 0;
    return -1;
}

/* Read until `need` bytes are in the buffer. Returns how many there are: less only at the stream's end; -1. */
static ssize_t fill(struct tar *tar, size_t need)
{
    if (tar->start == tar->end)
        tar->start = tar->end = 0;
    if (tar->start + need > sizeof tar->buffer) {
        memmove(tar->buffer, tar->buffer + tar->start, tar->end - tar->start);
        tar->end -= tar->start;
        tar->start = 0;
    }
    while (tar->end - tar->start < need) {
        ssize_t n = read(tar->fd, tar->buffer + tar->end, sizeof tar->buffer - tar->end);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (!n)
            break;
        tar->end += n;
    }
    return tar->end - tar->start;
}

static ssize_t piece(struct tar *tar, int64_t most, const char **data)
{
    ssize_t n = fill(tar, 1);
    if (n < 0)
        return -1;
    if (!n)
        return refuse(tar, "the archive ends in the middle of a file");
    if (n > most)
        n = most;
    *data = tar->buffer + tar->start;
    tar->start += n;
    return n;
}

ssize_t tar_data(struct tar *tar, const char **data)
{
    if (!tar->left)
        return 0;
    ssize_t n = piece(tar, tar->left, data);
    if (n > 0)
        tar->left -= n;
    return n;
}

static int skip(struct tar *tar)
{
    const char *ignored;
    ssize_t n;
    tar->left += tar->padding;
    tar->padding = 0;
    while ((n = tar_data(tar, &ignored)) > 0)
        ;
    return n;
}

int tar_drain(struct tar *tar)
{
    ssize_t n;
    while ((n = fill(tar, 1)) > 0)
        tar->start = tar->end;
    return n;
}

/* Octal with blanks around it, or base-256 with the first bit set; "" is 0. Returns -1 when it is no number. */
static int number(const char *field, size_t width, int64_t *value)
{
    const unsigned char *p = (const unsigned char *)field, *end = p + width;
    if (*p & 0x80) {
        uint64_t n = *p & 0x40 ? ~0ULL : 0;
        n = n << 6 | (*p++ & 0x3f);
        for (; p < end; p++) {
            if (n >> 55 && n >> 55 != 0x1ff) /* eight more bits would change the sign */
                return -1;
            n = n << 8 | *p;
        }
        *value = n;
        return 0;
    }
    int64_t n = 0;
    while (p < end && *p == ' ')
        p++;
    for (; p < end && *p >= '0' && *p <= '7'; p++)
        n = n << 3 | (*p - '0'); /* 12 digits at most */
    for (; p < end; p++)
        if (*p && *p != ' ')
            return -1;
    *value = n;
    return 0;
}

static int checksum_is_right(const struct header *header)
{
    const char *bytes = (const char *)header;
    const size_t from = offsetof(struct header, checksum), to = from + sizeof header->checksum;
    int64_t expected, sum = 0, signed_sum = 0; /* old tars added signed chars */
    for (size_t i = 0; i < BLOCK; i++) {
        char byte = i >= from && i < to ? ' ' : bytes[i];
        sum += (unsigned char)byte;
        signed_sum += (signed char)byte;
    }
    return !number(header->checksum, sizeof header->checksum, &expected) && (expected == sum || expected == signed_sum);
}

static int is_zero(const char *block)
{
    return !block[0] && !memcmp(block, block + 1, BLOCK - 1);
}

/* The next block as a header. Returns 1, 0 at the end of the archive, -1. */
static int read_header(struct tar *tar, struct header *header)
{
    ssize_t n = fill(tar, BLOCK);
    if (n < 0)
        return -1;
    if (!n)
        return 0; /* no zero blocks at the end: some tools forget them, and Docker does not mind */
    if (n < BLOCK)
        return refuse(tar, "the archive ends in the middle of a header");
    memcpy(header, tar->buffer + tar->start, BLOCK);
    tar->start += BLOCK;
    if (is_zero((const char *)header))
        return 0;
    if (!checksum_is_right(header))
        return refuse(tar, "this is no tar archive: a header's checksum is wrong");
    return 1;
}

/* What an extension's data is, in `where`, a NUL after it. */
static int read_extension(struct tar *tar, int64_t size, char *where, size_t room)
{
    const char *data;
    ssize_t n;
    if (size < 0 || (uint64_t)size >= room)
        return refuse(tar, room == TAR_PATH ? "a name is longer than 4095 bytes" : "an extended header is over 1 MiB");
    tar->left = size;
    tar->padding = -size & (BLOCK - 1);
    while ((n = tar_data(tar, &data)) > 0) {
        memcpy(where, data, n);
        where += n;
    }
    *where = 0;
    return n < 0 ? -1 : skip(tar);
}

static int skip_extension(struct tar *tar, int64_t size)
{
    if (size < 0 || size > TAR_EXTENSION)
        return refuse(tar, "an extended header is over 1 MiB");
    tar->left = size;
    tar->padding = -size & (BLOCK - 1);
    return skip(tar);
}

/* Decimal, nothing else. */
static int decimal(const char *text, size_t length, int64_t *value)
{
    int64_t n = 0;
    if (!length || length > 18)
        return -1;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        n = n * 10 + (text[i] - '0');
    }
    *value = n;
    return 0;
}

/* "-1.25": seconds and a fraction of any length. */
static int pax_time(const char *text, size_t length, struct timespec *time)
{
    int negative = length && *text == '-';
    const char *end = text + length, *dot = memchr(text, '.', length);
    int64_t seconds, nanoseconds = 0;
    if (decimal(text + negative, (dot ? dot : end) - text - negative, &seconds))
        return -1;
    for (int i = 0, scale = 100000000; dot && i < end - dot - 1; i++, scale /= 10) {
        if (dot[1 + i] < '0' || dot[1 + i] > '9')
            return -1;
        nanoseconds += (dot[1 + i] - '0') * scale;
    }
    if (negative && nanoseconds)
        *time = (struct timespec){-seconds - 1, 1000000000 - nanoseconds};
    else
        *time = (struct timespec){negative ? -seconds : seconds, nanoseconds};
    return 0;
}

static int pax_name(struct tar *tar, char *where, const char *value, size_t length)
{
    if (length >= TAR_PATH)
        return refuse(tar, "a name is longer than 4095 bytes");
    if (memchr(value, 0, length))
        return refuse(tar, "a name has a zero byte in it");
    memcpy(where, value, length);
    where[length] = 0;
    return 0;
}

static int starts_with(const char *text, const char *prefix)
{
    return !strncmp(text, prefix, strlen(prefix));
}

struct overrides { /* what pax says in place of the header's fields */
    int64_t size, uid, gid;
    int has_size, has_uid, has_gid, has_mtime;
    struct timespec mtime;
};

/* One record; `key` ends in NUL, `value` does not. */
static int pax_record(struct tar *tar, struct tar_entry *entry, struct overrides *over, const char *key,
                      const char *value, size_t length)
{
    int bad = 0;
    if (starts_with(key, "GNU.sparse."))
        return refuse(tar, "sparse files are not supported");
    if (starts_with(key, "SCHILY.xattr.")) {
        if (entry->nxattrs == TAR_XATTRS)
            return refuse(tar, "a file has more than 64 extended attributes");
        entry->xattrs[entry->nxattrs++] = (struct tar_xattr){key + strlen("SCHILY.xattr."), value, length};
    } else if (!length)
        return 0; /* an empty value takes an override back: the header's field holds */
    else if (!strcmp(key, "path"))
        return pax_name(tar, tar->path, value, length);
    else if (!strcmp(key, "linkpath"))
        return pax_name(tar, tar->link, value, length);
    else if (!strcmp(key, "size"))
        bad = decimal(value, length, &over->size), over->has_size = 1;
    else if (!strcmp(key, "uid"))
        bad = decimal(value, length, &over->uid), over->has_uid = 1;
    else if (!strcmp(key, "gid"))
        bad = decimal(value, length, &over->gid), over->has_gid = 1;
    else if (!strcmp(key, "mtime"))
        bad = pax_time(value, length, &over->mtime), over->has_mtime = 1;
    return bad ? refuse(tar, "a number in an extended header is none") : 0;
}

/* "LENGTH KEY=VALUE\n" again and again. */
static int pax_records(struct tar *tar, struct tar_entry *entry, struct overrides *over, size_t size)
{
    for (char *p = tar->pax, *end = p + size; p < end;) {
        char *blank = memchr(p, ' ', end - p);
        int64_t length;
        if (!blank || decimal(p, blank - p, &length) || length <= blank + 1 - p || length > end - p)
            return refuse(tar, "an extended header is malformed");
        char *last = p + length - 1, *equals = memchr(blank + 1, '=', last - blank - 1);
        if (*last != '\n' || !equals)
            return refuse(tar, "an extended header is malformed");
        *equals = 0;
        if (strlen(blank + 1) != (size_t)(equals - blank - 1))
            return refuse(tar, "an extended header is malformed");
        if (pax_record(tar, entry, over, blank + 1, equals + 1, last - equals - 1))
            return -1;
        p += length;
    }
    return 0;
}

static void ustar_names(struct tar *tar, const struct header *header)
{
    if (!tar->path[0]) {
        int has_prefix = !memcmp(header->magic, "ustar", 6) && header->prefix[0];
        size_t at = 0;
        if (has_prefix) {
            at = strnlen(header->prefix, sizeof header->prefix);
            memcpy(tar->path, header->prefix, at);
            tar->path[at++] = '/';
        }
        size_t length = strnlen(header->name, sizeof header->name);
        memcpy(tar->path + at, header->name, length);
        tar->path[at + length] = 0;
    }
    if (!tar->link[0]) {
        size_t length = strnlen(header->link, sizeof header->link);
        memcpy(tar->link, header->link, length);
        tar->link[length] = 0;
    }
}

static int is_id(int64_t value)
{
    return value >= 0 && value < UINT32_MAX; /* (uid_t)-1 means "leave it" to chown(2) */
}

static int numbers(struct tar *tar, const struct header *header, const struct overrides *over, struct tar_entry *entry)
{
    int64_t mode, uid, gid, mtime, major = 0, minor = 0;
    if (number(header->mode, 8, &mode) || number(header->uid, 8, &uid) || number(header->gid, 8, &gid) ||
        number(header->size, 12, &entry->size) || number(header->mtime, 12, &mtime))
        return refuse(tar, "a number in a header is none");
    if ((entry->type == '3' || entry->type == '4') &&
        (number(header->major, 8, &major) || number(header->minor, 8, &minor)))
        return refuse(tar, "a number in a header is none");
    if (over->has_size)
        entry->size = over->size;
    uid = over->has_uid ? over->uid : uid;
    gid = over->has_gid ? over->gid : gid;
    if (!is_id(uid) || !is_id(gid))
        return refuse(tar, "an owner is out of range");
    if (major < 0 || major >= 1 << 12 || minor < 0 || minor >= 1 << 20)
        return refuse(tar, "a device number is out of range");
    entry->mode = mode & 07777;
    entry->uid = uid, entry->gid = gid, entry->major = major, entry->minor = minor;
    entry->mtime = over->has_mtime ? over->mtime : (struct timespec){mtime, 0};
    return 0;
}

static int finish(struct tar *tar, const struct header *header, const struct overrides *over, struct tar_entry *entry)
{
    entry->type = header->type;
    if (header->type == 0 || header->type == '7')
        entry->type = '0';
    ustar_names(tar, header);
    size_t length = strlen(tar->path);
    if (entry->type == '0' && length && tar->path[length - 1] == '/')
        entry->type = '5'; /* before ustar there was no type for directories */
    if (header->type == 'S')
        return refuse(tar, "sparse files are not supported");
    if (entry->type < '0' || entry->type > '6')
        return refuse(tar, "an entry is of a type that layers do not have");
    if (numbers(tar, header, over, entry))
        return -1;
    if (entry->size < 0 || entry->size > SIZE_MAX_FILE)
        return refuse(tar, "a size is out of range");
    if (entry->type != '0')
        entry->size = 0; /* the size of a link is its target's, and no data follows */
    entry->path = tar->path, entry->link = tar->link;
    tar->left = entry->size;
    tar->padding = -entry->size & (BLOCK - 1);
    return 1;
}

int tar_next(struct tar *tar, struct tar_entry *entry)
{
    struct header header;
    struct overrides over = {0};
    int got, extended = 0;
    if (tar->ended)
        return 0;
    if (skip(tar))
        return -1;
    entry->nxattrs = 0;
    tar->path[0] = tar->link[0] = 0;
    while ((got = read_header(tar, &header)) > 0) {
        int64_t size;
        char *where = header.type == 'L' ? tar->path : header.type == 'K' ? tar->link : tar->pax;
        if (!strchr("LKxg", header.type) || !header.type)
            return finish(tar, &header, &over, entry);
        if (number(header.size, 12, &size))
            return refuse(tar, "a number in a header is none");
        if (header.type == 'g') {
            if (skip_extension(tar, size))
                return -1;
            continue;
        }
        if (header.type == 'x' && extended++)
            return refuse(tar, "an entry has two extended headers");
        if (read_extension(tar, size, where, where == tar->pax ? sizeof tar->pax : TAR_PATH))
            return -1;
        if (header.type == 'x' && pax_records(tar, entry, &over, size))
            return -1;
    }
    tar->ended = 1;
    if (!got && (extended || tar->path[0] || tar->link[0]))
        return refuse(tar, "the archive ends after an extended header");
    return got;
}
