/* One small static program, several modes, built into three executables; message.h tells the story of the first. */
#include <stdio.h>
#include <string.h>

#include "message.h"
#include "modes.h"

/* Modes whose file is not linked in are not there: windlass-net has `net` alone, windlass-files all others, and the
 * shim, whose pages count once a container, those of them that a container needs. */
#pragma weak copyup_main
#pragma weak files_main
#pragma weak init_main
#pragma weak logs_main
#pragma weak net_main
#pragma weak run_main
#pragma weak unpack_main
#pragma weak userns_main

static int version_main(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("windlass-shim protocol %d oplist %d\n", PROTOCOL_VERSION, OPLIST_VERSION);
    return 0;
}

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
} modes[] = {
    {"run", run_main},
    {"copyup", copyup_main},
    {"files", files_main},
    {"init", init_main},
    {"logs", logs_main},
    {"net", net_main},
    {"unpack", unpack_main},
    {"userns", userns_main},
    {"version", version_main},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
        if (modes[i].main && !strcmp(argv[1], modes[i].name))
            return modes[i].main(argc - 1, argv + 1);
    fputs("usage: windlass-shim|windlass-files|windlass-net run|copyup|files|init|logs|net|unpack|userns|version ...\n", stderr);
    return 64;
}
