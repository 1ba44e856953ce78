/* Paths of a container, which its image may have filled with links: resolved by the kernel, inside the root only.
 *
 * No path is checked as text (CVE-2026-17106), none is resolved twice (CVE-2021-30465, CVE-2024-45310), no link
 * of /proc is followed (CVE-2024-21626).  What comes back is a descriptor, and only that is used afterwards.
 */
#ifndef WINDLASS_PATHS_H
#define WINDLASS_PATHS_H
#include <stdint.h>
#include <sys/types.h>

#define LEAF_MAX 256

/* Open `path` inside `root`; "..", "/" and links stay inside. Returns a CLOEXEC descriptor, or -1 with errno. */
int path_open(int root, const char *path, uint64_t flags);

/* Open the directory that `path` is or would be in, made with mode 0755 when missing; `leaf` gets the last name.
 * Returns a descriptor, or -1 with errno; EEXIST when `path` is the root itself or ends in ".". */
int path_parent(int root, const char *path, char leaf[LEAF_MAX]);

/* Make a directory, or an empty file, and its parents; what exists is kept, a link at the end not followed. */
int path_mkdir(int root, const char *path, mode_t mode);
int path_touch(int root, const char *path, mode_t mode);

#endif
