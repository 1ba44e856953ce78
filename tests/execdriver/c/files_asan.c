/* The walker and the tar writer without their sandbox, for the address sanitizer.
 *
 * files_asan get DIRECTORY NAME   a tar of a directory
 * files_asan list DIRECTORY       a tar of what the list on fd 0 names */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "files.h"
#include "unpack.h"

const char *syscall_name = "";

int is_kept_attribute(const char *name)
{
    return !strncmp(name, "user.", 5);
}

int main(int argc, char **argv)
{
    int root = argc > 2 ? open(argv[2], O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (root < 0)
        return 64;
    int failed = argc == 4 ? walk(root, ".", argv[3]) : walk_list(root, 0);
    return failed || tar_put_end() ? (perror(walk_name), 1) : 0;
}
