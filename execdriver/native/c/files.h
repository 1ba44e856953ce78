/* The `files` mode's parts: files_world.c is where a container's files are seen, files_walk.c goes through them,
 * files_tar.c writes what it finds; what comes in is unpack.c's. */
#ifndef WINDLASS_FILES_H
#define WINDLASS_FILES_H
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* Make a container's files the whole world of this process: own mount, network, IPC and UTS namespaces, and no device
 * or program of the container can be used.  Each returns a descriptor of the root, or -1 with errno; `syscall_name`
 * says what failed.
 *
 * By the op list on fd 3: what a container that does not run will see, mounted here and nowhere else; `place` is an
 * empty directory of the host. */
int world_of_ops(const char *place);

/* By the mount namespace on fd 3 and, unless that is -1, the user namespace: what a running container sees, as a copy
 * of all its mounts but those of the kernel's own on /proc, /sys and /dev. */
int world_of_namespace(int users);

/* By a folder of the host, alone. */
int world_of_folder(const char *path);

/* The root file system alone, without what is mounted in it. */
int without_mounts(int root);

/* -- the tar that goes out ----------------------------------------------------------------------------------- */

/* One entry; for a regular file tar_put_data follows.  `file` is a descriptor to take extended attributes from, or -1;
 * `link` is where a link leads.  All return 0, or -1 with errno. */
int tar_put(const char *name, char type, const struct stat *st, const char *link, int file);

/* The data of a regular file: `size` bytes, zeros for those that have gone meanwhile. */
int tar_put_data(int file, int64_t size);
int tar_put_end(void);

/* -- walking ------------------------------------------------------------------------------------------------- */

/* What the walk is at, as the archive names it; for errors. */
extern char walk_name[];

/* Write `leaf` of the directory `dir` as `name`, with all that is in it.  A name of "/" is that of the root, "" stands
 * for the root that is not to be written itself.  What vanishes meanwhile is left out, and so are sockets. */
int walk(int dir, const char *leaf, const char *name);

/* Write what the list on `input` names, below `root`: NUL-ended "+PATH" for one that is there, "-PATH" for one that has
 * been deleted, which becomes a whiteout. */
int walk_list(int root, int input);

#endif
