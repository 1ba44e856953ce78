/* A strict reader of tar streams, as layers are: ustar, pax, GNU's long names and base-256 numbers.
 *
 * It reads fd once, forwards, in bounded memory, and believes nothing: what does not fit the format ends the
 * stream with a sentence.  Sparse files are refused, in all their dialects: no tool writes layers with them, and
 * their sizes are a bomb.  Global pax headers are read over, as Docker does.
 * Sources: POSIX pax(1), "Extended Description"; GNU tar manual, "Basic Tar Format"; Go's archive/tar.
 */
#ifndef WINDLASS_UNPACK_TAR_H
#define WINDLASS_UNPACK_TAR_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum { TAR_XATTRS = 64, TAR_BUFFER = 256 * 1024, TAR_EXTENSION = 1024 * 1024, TAR_PATH = 4096 };

struct tar_xattr {
    const char *name, *value;
    size_t size;
};

struct tar_entry {
    char type; /* '0' file, '1' hard link, '2' symlink, '3' char, '4' block, '5' directory, '6' FIFO */
    mode_t mode;
    uint32_t uid, gid, major, minor;
    int64_t size; /* of the data that follows; 0 for all but files */
    struct timespec mtime;
    const char *path, *link; /* valid until the next entry */
    unsigned nxattrs;
    struct tar_xattr xattrs[TAR_XATTRS];
};

struct tar {
    int fd;
    int64_t left;     /* bytes of the entry's data that nobody has read yet */
    unsigned padding; /* bytes after it, up to the next block */
    int ended;
    const char *error; /* what is wrong, when errno is 0 */
    size_t start, end; /* what of `buffer` is filled */
    char buffer[TAR_BUFFER];
    char pax[TAR_EXTENSION + 1];
    char path[TAR_PATH], link[TAR_PATH];
};

/* Read the next entry, past what is left of this one. Returns 1, 0 at the end, -1 with `error` or errno. */
int tar_next(struct tar *tar, struct tar_entry *entry);

/* The next piece of the entry's data. Returns its size, 0 at the end, -1 with `error` or errno. */
ssize_t tar_data(struct tar *tar, const char **data);

/* Read to the end of the stream, whatever comes: the writer hashes all of it. Returns 0, or -1 with errno. */
int tar_drain(struct tar *tar);

#endif
