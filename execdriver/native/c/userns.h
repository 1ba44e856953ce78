/* User namespaces: the owners of files on disk are the container's, and only the mounts map them. */
#ifndef WINDLASS_USERNS_H
#define WINDLASS_USERNS_H
#include <stddef.h>

#include "overlay.h"

/* As overlay_mount, with the owners of all layers, the upper one too, mapped into a user namespace. All paths begin
 * with the same folder's, `base` bytes long, which belongs to root. Needs Linux 6.15. */
int overlay_mount_mapped(const struct overlay *overlay, size_t base, int userns);

/* Be root in the user namespace that has just been entered: whom we were is nobody there. Returns 0, or -1 with errno. */
int userns_become_root(void);

#endif
