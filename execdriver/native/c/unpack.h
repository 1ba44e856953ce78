/* The `unpack` mode's parts: unpack_tar.c reads, unpack.c writes, unpack_confine.c shuts the rest of the host out. */
#ifndef WINDLASS_UNPACK_H
#define WINDLASS_UNPACK_H
#include <stddef.h>
#include <stdint.h>

/* What a tar is unpacked as: a layer, or files that are copied into a container.
 *
 * With `broker` < 0 whiteouts are applied to what lies in the directory; otherwise they become overlay's own, and
 * `broker` is the socket of who may set trusted attributes.  In a copy there are no whiteouts, the directory itself
 * keeps its attributes, and nothing is synced. */
struct unpack_rules {
    int root, broker; /* `root`: where names begin */
    uint64_t resolve; /* RESOLVE_*: how they are looked up */
    int copies;       /* a copy, no layer */
    int keeps_kinds;  /* no directory gives way to anything else, nor the other way round */
    int64_t uid, gid; /* whose everything becomes; -1: as the archive says */
};

/* The rules of layers: links stay inside `root`, and so on one file system. */
struct unpack_rules unpack_layer(int root, int broker);

/* Unpack the tar on `input`, and report on `output`. Returns an exit status. */
int unpack_prepare(void); /* first; returns -1 without memory */
int unpack_stream(int input, int output, const struct unpack_rules *rules);

/* The line of an error: "error ERRNO PATH: SENTENCE"; with errno 0 the sentence is `sentence`. */
int report_error(int output, const char *path, const char *sentence);

/* Make the directory `path` the whole world: own mount, network, IPC and UTS namespaces, root pivoted into it.
 * Returns its descriptor, or -1 with errno; `syscall_name` says what failed. */
int confine_enter(const char *path);

/* Give up all but what writing files takes, and, with `copies`, reading them: capabilities, new privileges, resources,
 * system calls.  `descriptors` says how deep a directory may be removed or copied. */
int confine_drop(int copies, unsigned descriptors);

/* Whether an extended attribute of an image may reach the host's disk. */
int is_kept_attribute(const char *name);

/* What remains of the parent: mark the directories that come over `socket` opaque, until its other end closes. */
int confine_broker(int socket);

#endif
