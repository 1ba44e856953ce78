/* Writing a tar: ustar, with pax headers for what does not fit (POSIX pax(1), "Extended Description").
 *
 * The same files give the same bytes: nothing of the time, the host or the order of names on the disk is in them.
 * Times are whole seconds, as Docker writes them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "files.h"
#include "unpack.h"
#include "unpack_tar.h"

enum { OUTPUT = 1, BLOCK = 512, SMALL = 64 << 10, NAMES_MAX = 64 << 10, VALUE_MAX = 64 << 10 };
static const int64_t OCTAL_11 = 1LL << 33, OCTAL_7 = 1LL << 21;

static char out[256 << 10], pax[TAR_EXTENSION];
static size_t filled, pax_size;

static int write_all(const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(OUTPUT, data, size);
        if (n < 0 && errno != EINTR)
            return -1;
        data += n > 0 ? n : 0;
        size -= n > 0 ? n : 0;
    }
    return 0;
}

static int flush(void)
{
    size_t size = filled;
    filled = 0;
    return write_all(out, size);
}

static int put(const void *data, size_t size)
{
    if (filled + size > sizeof out && flush())
        return -1;
    memcpy(out + filled, data, size);
    filled += size;
    return 0;
}

static int pad(int64_t size)
{
    static const char zeros[BLOCK];
    return put(zeros, -size & (BLOCK - 1));
}

/* -- pax records ---------------------------------------------------------------------------------------------- */

/* "LENGTH KEY=VALUE\n", where LENGTH counts its own digits. */
static int record(const char *key, const void *value, size_t size)
{
    char number[24];
    size_t rest = strlen(key) + size + 3, length = rest + 1;
    while (length != rest + snprintf(number, sizeof number, "%zu", length))
        length = rest + strlen(number);
    errno = E2BIG;
    if (pax_size + length > sizeof pax - 1) /* one is for the NUL of what follows */
        return -1;
    pax_size += sprintf(pax + pax_size, "%s %s=", number, key);
    memcpy(pax + pax_size, value, size);
    pax_size += size;
    pax[pax_size++] = '\n';
    return 0;
}

static int number_record(const char *key, int64_t value)
{
    char text[24];
    return record(key, text, snprintf(text, sizeof text, "%lld", (long long)value));
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Extended attributes that mean the same elsewhere, by name: a file system has them in any order. */
static int attributes(int file)
{
    static char names[NAMES_MAX], value[VALUE_MAX];
    const char *kept[TAR_XATTRS];
    int count = 0;
    ssize_t size = file < 0 ? 0 : flistxattr(file, names, sizeof names);
    for (const char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
        errno = E2BIG;
        if (is_kept_attribute(name) && count == TAR_XATTRS)
            return -1;
        if (is_kept_attribute(name))
            kept[count++] = name;
    }
    qsort(kept, count, sizeof *kept, compare);
    for (int i = 0; i < count; i++) {
        char key[300];
        ssize_t length = fgetxattr(file, kept[i], value, sizeof value);
        snprintf(key, sizeof key, "SCHILY.xattr.%s", kept[i]);
        if (length >= 0 && record(key, value, length))
            return -1;
    }
    return 0;
}

/* -- headers -------------------------------------------------------------------------------------------------- */

static void octal(char *field, size_t width, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%0*llo", (int)width - 1, (unsigned long long)value);
    memcpy(field, text, width - 1);
}

/* A value, or 0 where a pax record has it. */
static int64_t fitting(int64_t value, int64_t limit)
{
    return value >= 0 && value < limit ? value : 0;
}

static int header(const char *name, char type, const struct stat *st, const char *link, int64_t size)
{
    char block[BLOCK] = {0};
    unsigned sum = 8 * ' ';
    memcpy(block, name, strnlen(name, 100));
    octal(block + 100, 8, st->st_mode & 07777);
    octal(block + 108, 8, fitting(st->st_uid, OCTAL_7));
    octal(block + 116, 8, fitting(st->st_gid, OCTAL_7));
    octal(block + 124, 12, fitting(size, OCTAL_11));
    octal(block + 136, 12, fitting(st->st_mtim.tv_sec, OCTAL_11));
    block[156] = type;
    memcpy(block + 157, link, strnlen(link, 100));
    memcpy(block + 257, "ustar\0" "00", 8);
    if (type == '3' || type == '4') {
        octal(block + 329, 8, major(st->st_rdev));
        octal(block + 337, 8, minor(st->st_rdev));
    }
    for (int i = 0; i < BLOCK; i++)
        sum += (unsigned char)block[i];
    octal(block + 148, 7, sum);
    block[155] = ' ';
    return put(block, BLOCK);
}

static int extension(const char *name)
{
    static const struct stat plain = {.st_mode = 0644};
    char title[100];
    const char *leaf = strrchr(name, '/');
    snprintf(title, sizeof title, "PaxHeaders.0/%.80s", leaf && leaf[1] ? leaf + 1 : name);
    if (header(title, 'x', &plain, "", pax_size) || (pax_size > SMALL && flush()))
        return -1;
    return (pax_size > SMALL ? write_all(pax, pax_size) : put(pax, pax_size)) || pad(pax_size) ? -1 : 0;
}

int tar_put(const char *name, char type, const struct stat *st, const char *link, int file)
{
    int64_t size = type == '0' ? st->st_size : 0, time = st->st_mtim.tv_sec;
    pax_size = 0;
    if ((strlen(name) > 100 && record("path", name, strlen(name))) ||
        (strlen(link) > 100 && record("linkpath", link, strlen(link))) ||
        (size >= OCTAL_11 && number_record("size", size)) ||
        (st->st_uid >= OCTAL_7 && number_record("uid", st->st_uid)) ||
        (st->st_gid >= OCTAL_7 && number_record("gid", st->st_gid)) ||
        ((time < 0 || time >= OCTAL_11) && number_record("mtime", time)) || attributes(file))
        return -1;
    return (pax_size && extension(name)) || header(name, type, st, link, size) ? -1 : 0;
}

int tar_put_data(int file, int64_t size)
{
    static const char zeros[4096];
    int64_t left = size;
    while (left > 0) {
        if (filled == sizeof out && flush())
            return -1;
        size_t room = sizeof out - filled;
        ssize_t n = read(file, out + filled, left < (int64_t)room ? (size_t)left : room);
        if (n < 0 && errno != EINTR)
            return -1;
        if (!n)
            break;
        filled += n > 0 ? n : 0;
        left -= n > 0 ? n : 0;
    }
    for (size_t n; left > 0; left -= n)
        if (put(zeros, n = left < (int64_t)sizeof zeros ? (size_t)left : sizeof zeros))
            return -1;
    return pad(size);
}

int tar_put_end(void)
{
    static const char zeros[2 * BLOCK];
    return put(zeros, sizeof zeros) || flush() ? -1 : 0;
}
