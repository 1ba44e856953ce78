/* Feed damaged op lists to the parser: fuzz_oplist SAMPLE SEED ROUNDS.
 *
 * Each round changes a few bytes of the sample, or its length, and puts the result at the very end of an allocation,
 * so that the address sanitizer sees the first byte too many.  A list that passes the check is walked as the shim
 * would.  Prints how many passed: a fuzz that never gets through the check tests nothing behind it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../execdriver/native/c/oplist.h"

const char *syscall_name;
static unsigned long state;

static unsigned chance(unsigned below)
{
    state = state * 6364136223846793005ul + 1442695040888963407ul;
    return (unsigned)(state >> 33) % below;
}

static size_t damage(char *data, size_t size)
{
    static const unsigned char odd[] = {0, 1, 7, 8, 0x7f, 0x80, 0xff};
    for (unsigned n = chance(4); n; n--)
        data[chance(size)] ^= chance(2) ? 1u << chance(8) : odd[chance(sizeof odd)];
    if (chance(8) == 0) { /* a size that the header agrees with gets further */
        size -= chance(size / 8) * 8;
        unsigned total = size;
        if (size >= 16)
            memcpy(data + 8, &total, 4);
    }
    return size;
}

static unsigned long walk(const struct oplist *list)
{
    unsigned long sum = 0;
    for (const struct op *op = oplist_first(list); op; op = oplist_next(list, op)) {
        for (unsigned i = 0; i < op->nstr; i++)
            sum += strlen(op_string(op, i));
        for (unsigned i = 0; !op->nstr && i < op->len; i++)
            sum += (unsigned char)op->payload[i];
        if (op->code == OP_GROUPS)
            sum += ((const unsigned *)op->payload)[op->a ? op->a - 1 : 0] && op->a;
    }
    return sum;
}

int main(int argc, char **argv)
{
    static char sample[OPLIST_MAX], changed[OPLIST_MAX];
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    size_t size = file ? fread(sample, 1, sizeof sample, file) : 0;
    unsigned long passed = 0, sum = 0;
    state = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    for (long rounds = argc == 4 ? atol(argv[3]) : 0; size && rounds; rounds--) {
        memcpy(changed, sample, size);
        size_t n = damage(changed, size);
        char *exact = malloc(n ? n : 1);
        memcpy(exact, changed, n);
        struct oplist list = {exact, n};
        if (!oplist_check(exact, n)) {
            passed++;
            sum += walk(&list);
        }
        free(exact);
    }
    printf("%lu %lu\n", passed, sum);
    return !size;
}
