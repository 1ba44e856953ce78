/* A further process in the container. */
#define _GNU_SOURCE
#include <errno.h>

#include "shim.h"
#include "sys.h"

/* The terminal belongs to who the process will be. */
static uid_t owner_in(const struct oplist *list)
{
    for (const struct op *op = oplist_first(list); op; op = oplist_next(list, op))
        if (op->code == OP_IDS)
            return op->a;
    return 0;
}

static int start(struct process *process, const struct record *record, int fds[4], int *index)
{
    struct oplist list = {0};
    if (oplist_read(fds[0], &list))
        return -1;
    process->terminal_owner = owner_in(&list);
    process->unheard = fds[1] < 0;
    int result = fds[1] < 0 ? 0 : session_new(process, fds[1], fds[2], record->a >> 8, record->b >> 32, record->data);
    if (!result && fds[1] >= 0)
        fds[1] = fds[2] = -1;
    *index = 0;
    if (!result)
        result = spawn_exec(process, &list, index);
    oplist_free(&list);
    return result;
}

void exec_start(struct connection *asker, const struct record *record, int fds[4])
{
    struct record failed = {REC_FAILED, record->proc, ESRCH, NONE, {0}};
    struct process *process = NULL;
    int index = -1;
    if (!record->proc || process_find(record->proc))
        failed.a = EEXIST;
    else if (!the_init->ended && the_init->started) {
        /* Its client is its own: when that one's input ends, so does stdin. */
        uint32_t stdio = (record->a & 0xff) | STDIO_STDIN_ONCE;
        process = process_new(record->proc, stdio, record->b & 0xffffffff);
        failed.a = EAGAIN;
    }
    if (!process) {
        control_send(asker, failed, -1);
        return;
    }
    process->asker = asker;
    syscall_name = "exec";
    if (start(process, record, fds, &index)) {
        process_failed(process, errno, index, syscall_name);
        return;
    }
    process_watch(process);
    session_input(process);
}
