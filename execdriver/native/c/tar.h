/* A strict reader of tar streams: ustar, pax, GNU long names and base-256 numbers; everything else is refused.
 *
 * The bytes are a stranger's. Every length is bounded before it is used, numbers are unsigned and checked for
 * overflow, strings end by NUL here whatever the archive says.
 * Sources: POSIX.1-2017 pax(1), GNU tar manual "Basic Tar Format".
 */
#ifndef WINDLASS_TAR_H
#define WINDLASS_TAR_H
#include <stddef.h>
#include <stdint.h>

#define TAR_PATH_MAX 4096
#define TAR_PAX_MAX (1u << 20) /* bytes of extended headers of one entry */
#define TAR_XATTRS 32

struct tar_xattr {
    const char *name;
    const void *value;
    size_t size;
};

struct tar_entry {
    char path[TAR_PATH_MAX], link[TAR_PATH_MAX];
    char type; /* as in the header; a regular file is always '0' */
    uint32_t mode, uid, gid, major, minor;
    uint64_t size;
    int64_t mtime;
    uint32_t mtime_ns;
    struct tar_xattr xattrs[TAR_XATTRS]; /* point into the reader's buffer: good until the next entry */
    int nxattrs;
};

/* Read the next entry's headers. 1: there is one; 0: the archive's end; -1: refused, see tar_error.
 * The data of the entry before must have been read with tar_data. */
int tar_next(int fd, struct tar_entry *entry);

/* The next piece of the entry's data, NULL at its end; *size is its length, 0 with NULL. On a cut: NULL and -1. */
const void *tar_data(int fd, long *size);

/* Read what follows the archive's end, so that whoever writes it is not cut off. */
void tar_drain(int fd);

extern const char *tar_error; /* why the last call gave -1 */

#endif
