#define _GNU_SOURCE
#include "overlay.h"

#include <string.h>

#include "sys.h"

static int lower_layers(int fs, const struct overlay *overlay)
{
    for (unsigned i = 0; i < overlay->layers; i++)
        if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", overlay->lower[i]))
            return -1;
    return 0;
}

/* Whatever the kernel does by default: what a container changes is whole in its upper layer, where commit reads it,
 * and not a reference to a layer below (overlayfs.rst, "redirect_dir", "metacopy"). */
int overlay_self_contained(int fs)
{
    return sys_fsconfig(fs, FSCONFIG_SET_STRING, "redirect_dir", "off") ||
                   sys_fsconfig(fs, FSCONFIG_SET_STRING, "metacopy", "off")
               ? -1
               : 0;
}

/* By the new calls, for kernels that take the layers one by one (6.5). */
static int by_layer(const struct overlay *overlay)
{
    int mount = -1, fs = CALL(fsopen, "overlay", FSOPEN_CLOEXEC);
    if (fs >= 0 && !sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay") && !lower_layers(fs, overlay) &&
        (!*overlay->upper || (!sys_fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", overlay->upper) &&
                              !sys_fsconfig(fs, FSCONFIG_SET_STRING, "workdir", overlay->work) &&
                              !overlay_self_contained(fs))) &&
        !sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL))
        mount = CALL(fsmount, fs, FSMOUNT_CLOEXEC, overlay->attributes);
    close_keeping_errno(fs);
    return mount;
}

/* A path inside an option text: colons part layers, commas options. */
static char *put_escaped(char *out, const char *end, const char *path)
{
    for (; *path && out + 2 < end; path++) {
        if (*path == ':' || *path == '\\' || *path == ',')
            *out++ = '\\';
        *out++ = *path;
    }
    return out;
}

static int options(const struct overlay *overlay, char *text, size_t size)
{
    char *out = text, *end = text + size;
    for (unsigned i = 0; i < overlay->layers && end - out > 16; i++) {
        out = stpcpy(out, i ? ":" : "lowerdir=");
        out = put_escaped(out, end - 16, overlay->lower[i]);
    }
    const char *const names[] = {",upperdir=", ",workdir="}, *const paths[] = {overlay->upper, overlay->work};
    for (int i = 0; i < 2 && *overlay->upper && end - out > 64; i++)
        out = put_escaped(stpcpy(out, names[i]), end - 16, paths[i]);
    if (*overlay->upper && end - out > 64)
        out = stpcpy(out, ",redirect_dir=off,metacopy=off");
    *out = 0;
    errno = E2BIG;
    return end - out > 32 ? 0 : -1;
}

/* Older kernels: mount(2) takes one page of options and a place, from which the mount is taken off at once. */
static int by_page(const struct overlay *overlay, const char *place)
{
    char text[4096];
    int mount = -1;
    syscall_name = "mount";
    if (options(overlay, text, sizeof text) || (CALL(mkdirat, AT_FDCWD, place, 0700) && errno != EEXIST))
        return -1;
    if (!CALL(mount, "overlay", place, "overlay", 0, text)) {
        mount = CALL(open_tree, AT_FDCWD, place, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        syscall(SYS_umount2, place, MNT_DETACH);
    }
    int saved = errno;
    syscall(SYS_unlinkat, AT_FDCWD, place, AT_REMOVEDIR);
    errno = saved;
    if (mount >= 0 && sys_mount_setattr(mount, 0, overlay->attributes, MS_PRIVATE)) {
        close_keeping_errno(mount);
        return -1;
    }
    return mount;
}

int overlay_mount(const struct overlay *overlay, const char *place)
{
    int mount = by_layer(overlay);
    if (mount < 0 && errno == EINVAL && !strcmp(syscall_name, "fsconfig"))
        mount = by_page(overlay, place);
    return mount;
}
