/* windlass-shim logs: read a json-file log into fd 1, straight to the client; see log.c for the format.
 *
 *     logs PATH MAXFILES FLAGS TAIL SINCE UNTIL
 *
 * FLAGS are FLAG_*; TAIL is a number of entries, -1 for all; SINCE and UNTIL are ns since the epoch, 0 for none.  With
 * FLAG_FOLLOW, fd 3 becomes readable or is hung up when the container has ended: what is in the file then is the
 * rest.  Rotation meanwhile loses nothing: the file that has been read is looked for by its inode among PATH,
 * PATH.1, ..., and the next younger one comes next.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "modes.h"

enum { FLAG_STDOUT = 1, FLAG_STDERR = 2, FLAG_TIMESTAMPS = 4, FLAG_FOLLOW = 8, FLAG_FRAMES = 16 };
enum { IN_SIZE = 512 << 10, OUT_SIZE = 1 << 20, STAMP = 30, FILES_MAX = 1024 };

static struct {
    const char *path;
    int max_files, flags;
    int64_t since, until;
    int fd;        /* the file that is being read */
    off_t offset;  /* how far */
    ino_t inode;
    ino_t last;    /* without FLAG_FOLLOW: the youngest file when we began, and its size then */
    off_t limit;
    char *in, *out;
    size_t in_used, out_used;
    bool skipping; /* in a line that no buffer holds */
    bool done;     /* an entry after UNTIL has been seen */
} reader = {.fd = -1};

static void flush(void)
{
    const char *p = reader.out, *end = p + reader.out_used;
    while (p < end) {
        ssize_t n = write(1, p, end - p);
        if (n < 0 && errno == EAGAIN)
            poll(&(struct pollfd){1, POLLOUT, 0}, 1, -1);
        else if (n < 0 && errno != EINTR)
            exit(0); /* the client has gone */
        else
            p += n < 0 ? 0 : n;
    }
    reader.out_used = 0;
}

static unsigned hex4(const char *p)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned c = (unsigned char)p[i] | 0x20;
        value = value << 4 | (c >= 'a' ? c - 'a' + 10 : c - '0');
    }
    return value;
}

static char *put_utf8(char *out, unsigned c)
{
    if (c < 0x80) {
        *out++ = c;
    } else if (c < 0x800) {
        *out++ = 0xc0 | c >> 6;
        *out++ = 0x80 | (c & 63);
    } else if (c < 0x10000) {
        *out++ = 0xe0 | c >> 12;
        *out++ = 0x80 | (c >> 6 & 63);
        *out++ = 0x80 | (c & 63);
    } else {
        *out++ = 0xf0 | c >> 18;
        *out++ = 0x80 | (c >> 12 & 63);
        *out++ = 0x80 | (c >> 6 & 63);
        *out++ = 0x80 | (c & 63);
    }
    return out;
}

/* One escape; *p stands behind its backslash, and is advanced. Returns NULL when the line ends in it. */
static char *put_escape(char *out, const char **p, const char *end)
{
    static const char from[] = "ntrbf", to[] = "\n\t\r\b\f";
    if (end - *p < 1)
        return NULL;
    char c = *(*p)++;
    if (c != 'u') {
        const char *at = memchr(from, c, 5);
        *out = at ? to[at - from] : c;
        return out + 1;
    }
    if (end - *p < 4)
        return NULL;
    unsigned code = hex4(*p) & 0xffff;
    *p += 4;
    if (code >= 0xd800 && code < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u') {
        unsigned low = hex4(*p + 2) & 0xffff;
        if (low >= 0xdc00 && low < 0xe000) {
            *p += 6;
            return put_utf8(out, 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00));
        }
    }
    return put_utf8(out, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
}

/* Copy up to the next quote or backslash; may write up to 16 bytes more than it says. */
static char *put_plain(char *out, const char **from, const char *end)
{
    const char *p = *from;
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\');
    for (; end - p >= 16; p += 16, out += 16) {
        __m128i v = _mm_loadu_si128((const void *)p);
        int mask = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash)));
        _mm_storeu_si128((void *)out, v);
        if (mask) {
            *from = p + __builtin_ctz(mask);
            return out + __builtin_ctz(mask);
        }
    }
#endif
    while (p < end && *p != '"' && *p != '\\')
        *out++ = *p++;
    *from = p;
    return out;
}

/* A JSON string behind its first quote; *p comes to stand behind the last. Returns NULL when it has no end. */
static char *put_string(char *out, const char **p, const char *end)
{
    while (out && *p < end) {
        out = put_plain(out, p, end);
        if (*p == end)
            return NULL;
        if (*(*p)++ == '"')
            return out;
        out = put_escape(out, p, end);
    }
    return NULL;
}

static const char *find_last(const char *p, const char *end, const char *what)
{
    const char *found = NULL;
    size_t n = strlen(what);
    while ((p = memmem(p, end - p, what, n)))
        found = p += n;
    return found;
}

/* "2026-01-02T03:04:05.123456789Z", whatever digits the fraction has: ns since the epoch, -1 for nonsense. */
static int64_t parse_time(const char *p, const char *end)
{
    struct tm tm = {0};
    int64_t fraction = 0, digit = 100000000;
    if (end - p < 20 || sscanf(p, "%4d-%2d-%2dT%2d:%2d:%2d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
                               &tm.tm_min, &tm.tm_sec) != 6)
        return -1;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    if (p[19] == '.')
        for (p += 20; p < end && *p >= '0' && *p <= '9'; p++, digit /= 10)
            fraction += (*p - '0') * digit;
    return timegm(&tm) * INT64_C(1000000000) + fraction;
}

/* Docker's prefix: always nine digits, then a space. */
static char *put_stamp(char *out, const char *time, const char *end)
{
    memcpy(out, "0000-00-00T00:00:00.000000000Z ", STAMP + 1);
    size_t n = 0;
    while (time + n < end && n < STAMP - 1 && time[n] != 'Z' && time[n] != '"')
        n++;
    memcpy(out, time, n);
    return out + STAMP + 1;
}

/* Whether the entry is wanted: by its stream and time. */
static bool is_wanted(int stream, const char *time, const char *end)
{
    if (!(reader.flags & (stream == 2 ? FLAG_STDERR : FLAG_STDOUT)))
        return false;
    if (!reader.since && !reader.until)
        return true;
    int64_t when = parse_time(time, end);
    if (reader.until && when > reader.until)
        reader.done = true;
    return when >= reader.since && !reader.done;
}

/* Behind `std` of the stream's name: where the time begins. Docker may have put attributes between. */
static const char *find_time(const char *p, const char *end)
{
    if (!p || end - p < 34)
        return NULL;
    return memcmp(p + 3, "\",\"time\":\"", 10) ? find_last(p, end, "\"time\":\"") : p + 13;
}

/* One line of the file, without its newline. What is no entry is passed over: a crash may have torn it. */
static void put_entry(const char *line, const char *end)
{
    static const char begin[] = "{\"log\":\"", then[] = ",\"stream\":\"std";
    char *start = reader.out + reader.out_used;
    size_t head = reader.flags & FLAG_FRAMES ? 8 : 0, stamp = reader.flags & FLAG_TIMESTAMPS ? STAMP + 1 : 0;
    const char *p = line + sizeof begin - 1;
    if (end - line < 40 || memcmp(line, begin, sizeof begin - 1))
        return;
    char *stop = put_string(start + head + stamp, &p, end);
    if (!stop)
        return;
    if (end - p < 40 || memcmp(p, then, sizeof then - 1))
        p = find_last(p, end, then);
    else
        p += sizeof then - 1;
    const char *time = find_time(p, end);
    int stream = time && *p == 'e' ? 2 : 1;
    if (!time || !is_wanted(stream, time, end))
        return;
    if (stamp)
        put_stamp(start + head, time, end);
    size_t size = stop - start - head;
    if (head)
        memcpy(start, (char[]){stream, 0, 0, 0, size >> 24, size >> 16, size >> 8, size}, 8);
    reader.out_used = stop - reader.out;
}

/* Take whole lines out of the buffer; what is left of a line moves to its front. */
static void take_lines(void)
{
    char *p = reader.in, *end = p + reader.in_used, *newline;
    for (; !reader.done && (newline = memchr(p, '\n', end - p)); p = newline + 1) {
        if (reader.out_used + (newline - p) + 128 > OUT_SIZE)
            flush();
        if (!reader.skipping)
            put_entry(p, newline);
        reader.skipping = false;
    }
    reader.in_used = end - p;
    if (reader.in_used == IN_SIZE) { /* no entry of ours is that long */
        reader.skipping = true;
        reader.in_used = 0;
    }
    memmove(reader.in, p, reader.in_used);
}

/* Without FLAG_FOLLOW a log that is written faster than read must end all the same. */
static bool is_last_file(void)
{
    return !(reader.flags & FLAG_FOLLOW) && reader.inode == reader.last;
}

/* Read the file from where we are to its end. */
static void drain(void)
{
    struct stat st;
    if (!fstat(reader.fd, &st) && st.st_size < reader.offset) { /* "rotated" into itself: MAXFILES is 1 */
        reader.offset = 0;
        reader.in_used = 0;
    }
    while (!reader.done) {
        size_t room = IN_SIZE - reader.in_used;
        if (is_last_file() && reader.limit - reader.offset < (off_t)room)
            room = reader.limit - reader.offset;
        ssize_t n = pread(reader.fd, reader.in + reader.in_used, room, reader.offset);
        if (n <= 0)
            return;
        reader.offset += n;
        reader.in_used += n;
        take_lines();
    }
}

/* Open PATH, or PATH.number. Returns -1 when it is not there. */
static int open_number(int number, struct stat *st)
{
    char name[4096];
    snprintf(name, sizeof name, number ? "%s.%d" : "%s", reader.path, number);
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd >= 0 && (fstat(fd, st) || !S_ISREG(st->st_mode))) {
        close(fd);
        return -1;
    }
    return fd;
}

static void use(int fd, off_t offset, ino_t inode)
{
    reader.inode = inode;
    if (reader.fd >= 0)
        close(reader.fd);
    reader.fd = fd;
    reader.offset = offset;
    reader.in_used = 0; /* half a line at a file's end will never be whole */
    reader.skipping = false;
}

/* Go on to the file that follows the one we have read. Returns false when that is the youngest. */
static bool next_file(void)
{
    struct stat ours, st;
    int younger = -1;
    ino_t younger_inode = 0;
    if (fstat(reader.fd, &ours))
        return false;
    for (int number = 0; number < reader.max_files; number++) {
        int fd = open_number(number, &st);
        if (fd < 0)
            continue;
        if (st.st_ino == ours.st_ino && st.st_dev == ours.st_dev) {
            close(fd);
            if (younger < 0)
                return false;
            drain(); /* what came between our last look and the rotation */
            use(younger, 0, younger_inode);
            return true;
        }
        if (younger >= 0)
            close(younger);
        younger = fd;
        younger_inode = st.st_ino;
    }
    if (younger < 0)
        return false;
    drain();
    use(younger, 0, younger_inode); /* ours has been rotated away altogether: go on with the oldest that is left */
    return true;
}

static void read_all(void)
{
    do
        drain();
    while (!reader.done && !is_last_file() && next_file());
    flush();
}

/* Where the last `count` lines of the file begin; what it lacks is left in *count. */
static off_t tail_offset(int fd, off_t size, int64_t *count)
{
    while (size > 0) {
        size_t n = size < IN_SIZE ? size : IN_SIZE;
        ssize_t got = pread(fd, reader.in, n, size - n);
        if (got <= 0)
            return size;
        for (char *p = reader.in + got; (p = memrchr(reader.in, '\n', p - reader.in));)
            if ((*count)-- == 0)
                return size - n + (p - reader.in) + 1;
        size -= n;
    }
    return 0;
}

/* Begin with the oldest file that is wanted: all, or as far back as TAIL goes. */
static bool begin(int64_t tail)
{
    struct stat st;
    ino_t before = 0;
    for (int number = 0; number < reader.max_files; number++) {
        int fd = open_number(number, &st);
        if (fd < 0)
            break;
        if (number && st.st_ino == before) { /* rotated since the last one was opened: it is the same */
            close(fd);
            continue;
        }
        before = st.st_ino;
        if (!number) {
            reader.last = st.st_ino;
            reader.limit = st.st_size;
        }
        int64_t lacking = tail;
        off_t offset = tail < 0 ? 0 : tail_offset(fd, st.st_size, &lacking);
        use(fd, offset, st.st_ino);
        if (tail >= 0 && lacking < 0)
            break;
        tail = lacking;
    }
    return reader.fd >= 0;
}

static int watch_folder(void)
{
    char folder[4096];
    const char *slash = strrchr(reader.path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - reader.path) + 1 : 1, slash ? reader.path : ".");
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0 || inotify_add_watch(fd, folder, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
        return -1;
    return fd;
}

static int ms_until_end(void)
{
    struct timespec now;
    if (!reader.until)
        return -1;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left = reader.until / 1000000 - (now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000);
    return left <= 0 ? 0 : left > INT32_MAX ? INT32_MAX : left;
}

/* Wait for more. Returns false when there will be none: the container has ended, or UNTIL, or the client has gone. */
static bool wait_for_more(int notify)
{
    char events[4096];
    struct pollfd fds[] = {{notify, POLLIN, 0}, {3, POLLIN, 0}, {1, POLLRDHUP, 0}};
    int n = poll(fds, 3, ms_until_end());
    if (n < 0)
        return errno == EINTR;
    if (n == 0 || fds[2].revents & (POLLERR | POLLHUP | POLLRDHUP))
        return false;
    if (fds[0].revents)
        while (read(notify, events, sizeof events) > 0)
            ;
    return !fds[1].revents;
}

static void follow(void)
{
    int notify = watch_folder(); /* before the last look at the file */
    bool more = notify >= 0;
    read_all();
    while (more && !reader.done) {
        more = wait_for_more(notify);
        read_all();
    }
}

int logs_main(int argc, char **argv)
{
    if (argc != 7) {
        fputs("usage: windlass-shim logs PATH MAXFILES FLAGS TAIL SINCE UNTIL\n", stderr);
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    reader.path = argv[1];
    reader.max_files = atoi(argv[2]);
    reader.max_files = reader.max_files < 1 ? 1 : reader.max_files > FILES_MAX ? FILES_MAX : reader.max_files;
    reader.flags = atoi(argv[3]);
    reader.since = atoll(argv[5]);
    reader.until = atoll(argv[6]);
    char *map = mmap(NULL, IN_SIZE + OUT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return 1;
    reader.in = map;
    reader.out = map + IN_SIZE;
    if (!begin(atoll(argv[4]))) {
        fprintf(stderr, "windlass-shim: cannot open %s: %s\n", reader.path, strerror(errno));
        return 1;
    }
    if (reader.flags & FLAG_FOLLOW)
        follow();
    else
        read_all();
    return 0;
}
