/* Mounting overlayfs, detached, on any kernel that we run on. */
#ifndef WINDLASS_OVERLAY_H
#define WINDLASS_OVERLAY_H
#include <stdint.h>

/* Folders of the host. Without an upper (empty) it is read-only; `lower` is topmost first. */
struct overlay {
    const char *upper, *work, *const *lower;
    unsigned layers;
    uint64_t attributes; /* MOUNT_ATTR_* */
};

/* Returns the mount's descriptor, or -1 with errno and syscall_name. Kernels before 6.5 need `place`: a
 * directory that is made there, and taken away again, for the mount to be on for a moment. */
int overlay_mount(const struct overlay *overlay, const char *place);

/* The options of an overlay with an upper layer, which is being configured. Returns 0, or -1 with errno. */
int overlay_self_contained(int fs);

#endif
