/* The `unpack` mode's parts: unpack_tar.c reads, unpack.c writes, unpack_confine.c shuts the rest of the host out. */
#ifndef WINDLASS_UNPACK_H
#define WINDLASS_UNPACK_H
#include <stddef.h>

/* Unpack the tar on `input` into the directory `root`, and report on `output`. Returns an exit status.
 *
 * With `broker` < 0 whiteouts are applied to what lies in the directory; otherwise they become overlay's own, and
 * `broker` is the socket of who may set trusted attributes. */
int unpack_prepare(void); /* first; returns -1 without memory */
int unpack_stream(int input, int output, int root, int broker);

/* Make the directory `path` the whole world: own mount, network, IPC and UTS namespaces, root pivoted into it.
 * Returns its descriptor, or -1 with errno; `syscall_name` says what failed. */
int confine_enter(const char *path);

/* Give up all but what writing files takes, and, with `copies`, reading them: capabilities, new privileges, resources,
 * system calls. */
int confine_drop(int copies);

/* Whether an extended attribute of an image may reach the host's disk. */
int is_kept_attribute(const char *name);

/* What remains of the parent: mark the directories that come over `socket` opaque, until its other end closes. */
int confine_broker(int socket);

#endif
