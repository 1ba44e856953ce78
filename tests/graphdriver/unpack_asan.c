/* The unpacker without its sandbox, for the address sanitizer: unpack_asan DIRECTORY < TAR.
 *
 * Nothing but the way names are resolved keeps the archive inside DIRECTORY here. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>

#include "unpack.h"

const char *syscall_name = "";

int confine_enter(const char *path)
{
    (void)path;
    return -1;
}

int confine_drop(int copies, unsigned descriptors)
{
    (void)copies, (void)descriptors;
    return -1;
}

int confine_broker(int socket)
{
    (void)socket;
    return -1;
}

int main(int argc, char **argv)
{
    umask(0);
    int root = argc == 2 ? open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    struct unpack_rules rules = unpack_layer(root, -1);
    return root < 0 || unpack_prepare() ? 64 : unpack_stream(0, 1, &rules);
}
