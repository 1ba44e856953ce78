/* User namespaces: making one, mounting for one, entering one. */
#define _GNU_SOURCE
#include "userns.h"

#include <limits.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "modes.h"
#include "sys.h"

/* The folder of one layer, below the one whose owners are mapped. */
static int add_layer(int fs, int folder, const char *path, size_t base, const char *key)
{
    errno = EINVAL;
    syscall_name = "fsconfig";
    int fd = strlen(path) <= base ? -1 : CALL(openat, folder, path + base + 1, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int result = fd < 0 ? -1 : CALL(fsconfig, fs, FSCONFIG_SET_FD, key, NULL, fd);
    close_keeping_errno(fd);
    return result;
}

static int add_layers(int fs, int folder, const struct overlay *overlay, size_t base)
{
    for (unsigned i = 0; i < overlay->layers; i++)
        if (add_layer(fs, folder, overlay->lower[i], base, "lowerdir+"))
            return -1;
    if (!*overlay->upper)
        return 0;
    return add_layer(fs, folder, overlay->upper, base, "upperdir") ||
                   add_layer(fs, folder, overlay->work, base, "workdir") || overlay_self_contained(fs)
               ? -1
               : 0;
}

/* Overlayfs makes files of its own as who has mounted it: that has to be somebody whom the map knows. With another
 * user for files the kernel takes capabilities away, which the mount itself needs. */
static int act_as(uid_t uid, gid_t gid)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    setfsgid(gid);
    setfsuid(uid);
    if (CALL(capget, &head, data))
        return -1;
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted;
    return CALL(capset, &head, data);
}

static int make_overlay(const struct overlay *overlay, int folder, size_t base)
{
    int mount = -1, fs = CALL(fsopen, "overlay", FSOPEN_CLOEXEC);
    if (fs >= 0 && !sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay") &&
        !add_layers(fs, folder, overlay, base) && !sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL))
        mount = CALL(fsmount, fs, FSMOUNT_CLOEXEC, overlay->attributes);
    close_keeping_errno(fs);
    return mount;
}

int overlay_mount_mapped(const struct overlay *overlay, size_t base, int userns)
{
    char path[PATH_MAX];
    struct stat root; /* the folder belongs to root, so its owner is whom root is mapped to */
    syscall_name = "oplist";
    if (base >= sizeof path || strlen(overlay->lower[0]) <= base)
        return errno = EBADMSG, -1;
    memcpy(path, overlay->lower[0], base);
    path[base] = 0;
    int mount = -1, folder = CALL(open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (folder >= 0 && !sys_map_owners(folder, 0, userns) && !fstat(folder, &root)) {
        if (!act_as(root.st_uid, root.st_gid))
            mount = make_overlay(overlay, folder, base);
        int saved = errno;
        setfsuid(0);
        setfsgid(0);
        errno = saved;
    }
    close_keeping_errno(folder);
    return mount;
}

int userns_become_root(void)
{
    if (CALL(setresgid, 0, 0, 0) || CALL(setresuid, 0, 0, 0))
        return -1;
    return CALL(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0); /* setresuid has set what fs.suid_dumpable says */
}

/* Whoever started us writes the maps and opens the namespaces; we only have to be there until then. */
int userns_main(int argc, char **argv)
{
    char byte = 0;
    if (argc != 3)
        return 64;
    int network = !strcmp(argv[1], "net") ? CLONE_NEWNET : 0;
    int given = *argv[2] ? CALL(openat, AT_FDCWD, argv[2], O_RDONLY | O_CLOEXEC) : -1;
    if (*argv[2] && (given < 0 || CALL(setns, given, CLONE_NEWUSER)))
        return 1;
    if (CALL(unshare, (given < 0 ? CLONE_NEWUSER : 0) | network) || write(1, &byte, 1) != 1)
        return 1;
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}
