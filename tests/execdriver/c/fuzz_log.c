/* Feed random bytes to the log's encoder: fuzz_log SEED ROUNDS FOLDER.
 *
 * Entries go to the end of an allocation of the size that log.h promises to be enough; streams of them through
 * log_output into FOLDER/log, in pieces of any size, with rotation.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../execdriver/native/c/log.h"

const char *syscall_name;
static unsigned long state;

static unsigned chance(unsigned below)
{
    state = state * 6364136223846793005ul + 1442695040888963407ul;
    return (unsigned)(state >> 33) % below;
}

static void fill(unsigned char *data, size_t size)
{
    static const unsigned char odd[] = {'\n', '"', '\\', '<', 0, 0xe2, 0x80, 0xa8, 0xf0, 0x9f, 0x98, 0xc2, 0xed, 0xff};
    unsigned kind = chance(4);
    for (size_t i = 0; i < size; i++)
        data[i] = kind == 0 ? odd[chance(sizeof odd)] : kind == 1 ? chance(256) : kind == 2 ? 1 : 'a' + chance(26);
}

static void one_entry(void)
{
    size_t size = chance(3) ? chance(300) : 16384 - chance(3);
    unsigned char *data = malloc(size ? size : 1);
    char *out = malloc(size * 6 + 200);
    fill(data, size);
    char *end = log_entry(out, 1 + chance(2), (char *)data, size, chance(2000000000) * 1000000007l);
    if (end[-1] != '\n' || memcmp(out, "{\"log\":\"", 8))
        abort();
    free(data);
    free(out);
}

static void some_output(void)
{
    size_t size = chance(4) ? chance(3000) : chance(65536);
    unsigned char *data = malloc(size ? size : 1);
    fill(data, size);
    log_output(1 + chance(2), (char *)data, size);
    if (chance(3))
        log_flush();
    if (!chance(100))
        log_end(1 + chance(2));
    free(data);
}

int main(int argc, char **argv)
{
    char path[4096];
    if (argc != 4)
        return 2;
    state = strtoul(argv[1], NULL, 10);
    snprintf(path, sizeof path, "%s/log", argv[3]);
    if (log_open(path, 300000, 2))
        return 1;
    for (long rounds = atol(argv[2]); rounds; rounds--) {
        one_entry();
        some_output();
    }
    log_end(1);
    log_end(2);
    return log_dropped != 0;
}
