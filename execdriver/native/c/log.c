/* Docker's json-file, byte for byte as its writer makes it (moby daemon/logger/jsonfilelog, jsonlogbytes.go):
 *
 *     {"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}
 *
 * One entry a line; a line over 16 KB without a newline is several entries, of which only the last ends in \n.
 * The split goes by bytes, each byte that is not UTF-8 becomes U+FFFD, fractions of seconds lose their last zeros.
 */
#define _GNU_SOURCE
#include "log.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "paths.h"
#include "sys.h"

enum { LINE_MAX_BYTES = 16384, ENTRY_MAX = LINE_MAX_BYTES * 6 + 200, BATCH = 256 << 10 };
enum { MAPPED = 2 * LINE_MAX_BYTES + BATCH + ENTRY_MAX };

uint32_t log_dropped;

static struct {
    int fd, dir;
    char name[LEAF_MAX];
    uint64_t size, max_size; /* bytes in the file, without the batch */
    unsigned max_files;
    size_t used; /* bytes in the batch */
    int64_t last_ns;
} the_log = {.fd = -1};

/* The large buffers are mapped: in .bss they would lie between the small variables and cost a page at each end. */
static char (*lines)[LINE_MAX_BYTES]; /* of each stream, the bytes of a line that has not ended yet ... */
static size_t held[2];                /* ... and how many */
static char *batch;                   /* BATCH and ENTRY_MAX bytes */

/* The length of the UTF-8 sequence at p as Go's utf8.DecodeRune sees it; 0 when it is none. */
static size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
    unsigned c = p[0], low = 0x80, high = 0xbf;
    size_t n = c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (!n || (size_t)(end - p) < n)
        return 0;
    low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : low;   /* no overlong forms */
    high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : high; /* no surrogates, nothing over U+10FFFF */
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

/* Whether a byte goes through as it is: the rest has an escape, or needs a look at what follows. */
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}

static char *put_ascii(char *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    *out++ = '\\';
    if (c == '"' || c == '\\' || c == '\n' || c == '\r') {
        *out++ = c == '\n' ? 'n' : c == '\r' ? 'r' : c;
        return out;
    }
    memcpy(out, "u00", 3);
    out[3] = hex[c >> 4];
    out[4] = hex[c & 15];
    return out + 5;
}

/* A byte that is not plain, with what belongs to it. Advances *p. */
static char *put_special(char *out, const unsigned char **p, const unsigned char *end)
{
    const unsigned char *s = *p;
    if (s[0] < 0x80) {
        *p += 1;
        return put_ascii(out, s[0]);
    }
    size_t n = utf8_length(s, end);
    *p += n ? n : 1;
    if (!n)
        return (char *)memcpy(out, "\\ufffd", 6) + 6;
    if (n == 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] & 0xfe) == 0xa8) /* U+2028, U+2029: line ends in JavaScript */
        return (char *)memcpy(out, s[2] & 1 ? "\\u2029" : "\\u2028", 6) + 6;
    memcpy(out, s, n);
    return out + n;
}

/* Copy plain bytes up to the first that is none; may write up to 16 bytes more than it says. */
static char *put_plain(char *out, const unsigned char **from, const unsigned char *end)
{
    const unsigned char *p = *from;
#ifdef __SSE2__
    const __m128i space = _mm_set1_epi8(0x20), quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'),
                  less = _mm_set1_epi8('<'), greater = _mm_set1_epi8('>'), ampersand = _mm_set1_epi8('&');
    for (; end - p >= 16; p += 16, out += 16) {
        __m128i v = _mm_loadu_si128((const void *)p);
        __m128i special = _mm_or_si128(_mm_cmplt_epi8(v, space), _mm_cmpeq_epi8(v, quote)); /* signed: also >= 0x80 */
        special = _mm_or_si128(special, _mm_or_si128(_mm_cmpeq_epi8(v, backslash), _mm_cmpeq_epi8(v, less)));
        special = _mm_or_si128(special, _mm_or_si128(_mm_cmpeq_epi8(v, greater), _mm_cmpeq_epi8(v, ampersand)));
        int mask = _mm_movemask_epi8(special);
        _mm_storeu_si128((void *)out, v);
        if (mask) {
            *from = p + __builtin_ctz(mask);
            return out + __builtin_ctz(mask);
        }
    }
#endif
    while (p < end && is_plain(*p))
        *out++ = *p++;
    *from = p;
    return out;
}

static char *put_text(char *out, const char *data, size_t size)
{
    const unsigned char *p = (const void *)data, *end = p + size;
    while (p < end) {
        out = put_plain(out, &p, end);
        if (p < end)
            out = put_special(out, &p, end);
    }
    return out;
}

static char *put_time(char *out, int64_t time_ns)
{
    static time_t second = -1;
    static char text[32];
    time_t now = time_ns / 1000000000;
    unsigned fraction = time_ns % 1000000000, digits = 9;
    if (now != second) {
        struct tm tm;
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now, &tm));
        second = now;
    }
    size_t n = strlen(text);
    memcpy(out, text, n);
    out += n;
    for (; digits && fraction % 10 == 0; digits--)
        fraction /= 10;
    if (!digits)
        return out;
    *out = '.';
    for (unsigned i = digits; i; i--, fraction /= 10)
        out[i] = '0' + fraction % 10;
    return out + digits + 1;
}

char *log_entry(char *out, int stream, const char *data, size_t size, int64_t time_ns)
{
    static const char *const middle[] = {"\",\"stream\":\"stdout\",\"time\":\"", "\",\"stream\":\"stderr\",\"time\":\""};
    memcpy(out, "{\"log\":\"", 8);
    out = put_text(out + 8, data, size);
    memcpy(out, middle[stream == 2], 28);
    out = put_time(out + 28, time_ns);
    memcpy(out, "Z\"}\n", 4);
    return out + 4;
}

static unsigned count_lines(const char *p, size_t n)
{
    unsigned lines_seen = 0;
    for (const char *end = p + n; (p = memchr(p, '\n', end - p)); p++)
        lines_seen++;
    return lines_seen;
}

/* The disk is full: keep what went in up to the last whole entry, count the others as dropped. */
static void cut_back(size_t written)
{
    size_t whole = written;
    while (whole && batch[whole - 1] != '\n')
        whole--;
    if (whole < written && ftruncate(the_log.fd, the_log.size + whole))
        whole = written; /* a torn line is left: readers pass over it */
    the_log.size += whole;
    log_dropped += count_lines(batch + whole, the_log.used - whole);
}

void log_flush(void)
{
    if (!the_log.used)
        return;
    ssize_t n = write(the_log.fd, batch, the_log.used);
    if (n == (ssize_t)the_log.used)
        the_log.size += n;
    else
        cut_back(n < 0 ? 0 : n);
    the_log.used = 0;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Times go up strictly, at one look at the clock for a chunk of output. */
static void add_entry(int stream, const char *data, size_t size, int64_t now)
{
    if (the_log.max_size && the_log.size + the_log.used >= the_log.max_size)
        log_rotate();
    the_log.last_ns = now > the_log.last_ns ? now : the_log.last_ns + 1;
    the_log.used = log_entry(batch + the_log.used, stream, data, size, the_log.last_ns) - batch;
    if (the_log.used >= BATCH)
        log_flush();
}

/* Add bytes to the line that has begun; it becomes an entry when it ends, or is full. */
static void hold(int stream, const char *data, size_t size, bool ends, int64_t now)
{
    int i = stream == 2;
    memcpy(lines[i] + held[i], data, size);
    held[i] += size;
    if (ends) {
        add_entry(stream, lines[i], held[i], now);
        held[i] = 0;
    }
}

void log_output(int stream, const char *data, size_t size)
{
    size_t *before = &held[stream == 2];
    int64_t now = the_log.fd >= 0 ? now_ns() : 0;
    while (the_log.fd >= 0 && size) {
        /* The newline itself does not count: 16384 bytes and a newline are a full piece and an empty line. */
        size_t room = LINE_MAX_BYTES - *before, look = size < room ? size : room;
        const char *newline = memchr(data, '\n', look);
        size_t take = newline ? (size_t)(newline + 1 - data) : look;
        bool ends = newline || look == room;
        if (*before || !ends)
            hold(stream, data, take, ends, now);
        else
            add_entry(stream, data, take, now);
        data += take;
        size -= take;
    }
}

void log_end(int stream)
{
    if (the_log.fd >= 0 && held[stream == 2])
        hold(stream, "", 0, true, now_ns());
    log_flush();
}

static int open_file(int flags)
{
    return openat(the_log.dir, the_log.name, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0640);
}

/* name.2 -> name.3, name.1 -> name.2, name -> name.1; the oldest is overwritten. */
static void shift_files(void)
{
    char from[LEAF_MAX + 12], to[LEAF_MAX + 12];
    for (unsigned i = the_log.max_files - 1; i; i--) {
        snprintf(to, sizeof to, "%s.%u", the_log.name, i);
        snprintf(from, sizeof from, i > 1 ? "%s.%u" : "%s", the_log.name, i - 1);
        renameat(the_log.dir, from, the_log.dir, to);
    }
}

int log_rotate(void)
{
    errno = ENOENT;
    if (the_log.fd < 0)
        return -1;
    log_flush();
    if (the_log.max_files > 1)
        shift_files();
    int fd = open_file(the_log.max_files > 1 ? 0 : O_TRUNC);
    if (fd < 0)
        return -1; /* the old file goes on, under its new name */
    close(the_log.fd);
    the_log.fd = fd;
    the_log.size = 0;
    return 0;
}

/* A host that crashed may have left half an entry: what follows must begin on a line of its own. */
static void end_torn_line(void)
{
    char last;
    if (the_log.size && pread(the_log.fd, &last, 1, the_log.size - 1) == 1 && last != '\n')
        the_log.size += write(the_log.fd, "\n", 1) == 1;
}

int log_open(const char *path, uint64_t max_size, unsigned max_files)
{
    char directory[4096];
    const char *slash = strrchr(path, '/');
    struct stat st;
    size_t n = slash ? slash - path : 0;
    errno = ENAMETOOLONG;
    if (n + 2 > sizeof directory || strlen(slash ? slash + 1 : path) >= sizeof the_log.name)
        return -1;
    memcpy(directory, path, n);
    strcpy(directory + n, slash ? "/" : ".");
    strcpy(the_log.name, slash ? slash + 1 : path);
    char *map = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -1;
    lines = (void *)map;
    batch = map + 2 * LINE_MAX_BYTES;
    the_log.dir = CALL(openat, AT_FDCWD, directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    the_log.fd = the_log.dir < 0 ? -1 : open_file(0);
    if (the_log.fd < 0 || fstat(the_log.fd, &st))
        return -1;
    the_log.size = st.st_size;
    the_log.max_size = max_size;
    the_log.max_files = max_files ? max_files : 1;
    end_torn_line();
    return 0;
}

void log_idle(void)
{
    if (!batch)
        return;
    madvise(batch, BATCH + ENTRY_MAX, MADV_DONTNEED);
    for (int i = 0; i < 2; i++)
        if (!held[i])
            madvise(lines[i], LINE_MAX_BYTES, MADV_DONTNEED);
}
