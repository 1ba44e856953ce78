/* The supervisor's own structures: one thread, one epoll loop, fixed tables, no allocation.
 *
 * Tables are in .bss and cost nothing until used.  A *process* is the init (number 0) or an exec.  A *session* is a
 * client attached to a process.  A *connection* is a daemon that sends records.
 */
#ifndef WINDLASS_SHIM_H
#define WINDLASS_SHIM_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "message.h"
#include "oplist.h"

enum { MAX_PROCESSES = 256, MAX_SESSIONS = 256, MAX_CONNECTIONS = 16, CHUNK = 64 << 10 };

/* Something that epoll watches; embedded in what it belongs to. fd is -1 when there is nothing. */
struct source {
    int fd;
    uint32_t events;
    void (*ready)(struct source *source, uint32_t events);
};

/* Watch for `events`, or with 0 for nothing: not even for a hang-up, which epoll cannot mask. */
void watch(struct source *source, uint32_t events);
void source_close(struct source *source);

#define owner_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* Bytes that a slow reader has still to take; the memory is mapped on demand. */
struct buffer {
    char *data;
    size_t size, start, used;
};

void buffer_put(struct buffer *buffer, const char *data, size_t size);
void buffer_taken(struct buffer *buffer, size_t size);
void buffer_free(struct buffer *buffer);

enum stdin_state { STDIN_NONE, STDIN_COMING, STDIN_OPEN }; /* COMING: the terminal is not there yet */

struct process {
    bool used, started, ended;
    bool unheard; /* an exec that nobody is attached to: its output goes to the null device */
    uint16_t number;
    pid_t pid;
    int pidfd;
    uint32_t stdio, size; /* STDIO_*; rows << 16 | columns */
    uid_t terminal_owner;
    struct source status; /* from the child, until its program runs */
    struct source out[2]; /* stdout or the terminal, stderr */
    struct source in;
    enum stdin_state in_state;
    struct buffer in_waiting;
    bool in_ends; /* stdin is closed once in_waiting is out */
    struct connection *asker; /* who sent EXEC; NULL: everybody */
};

struct session {
    bool used, input_ended, hung_up, closing;
    uint8_t flags, key_count, keys_matched;
    char keys[104];
    uint32_t number;
    uint16_t process_number;
    struct process *process; /* NULL once it has nothing more to say */
    struct source client;
    struct buffer out;
    int early;         /* a file with stdin that came early, or -1 */
    int64_t give_up_at; /* CLOCK_MONOTONIC in ms, when it is on its way out */
};

struct connection {
    struct source source;
};

extern struct shim {
    int epoll, rundir;
    int overlay; /* the root's mount, held until EXIT has been sent */
    int slots[SLOTS];
    bool pids_joined; /* children are born in the pid namespace of another container */
    int userns;      /* the user namespace that the container is to be born in, or -1 */
    int pidns;       /* with it, the pid namespace that is to be joined then, or -1 */
    bool is_mapped;  /* the container has a user namespace of its own: execs join it too */
    bool dirty; /* memory to give back when nothing happens */
    bool quit;
    int exit_status;
    int session_top, process_top; /* nothing in the tables is used from here on */
    struct process processes[MAX_PROCESSES];
    struct session sessions[MAX_SESSIONS];
} shim;

#define the_init (&shim.processes[0])

int64_t now_ms(void);

/* prepare.c: ops of the shim itself, up to CLONE. Returns CLONE's op, or NULL with errno; *index counts the ops. */
const struct op *prepare(const struct oplist *list, int *index);
int open_cgroup(const struct op *op);
int prepare_overlay(const struct op *op);
int prepare_tree(const struct op *op);
void close_slots(void);
int write_file(const char *name, const char *text); /* in RUNDIR, by rename */

/* spawn.c: the init, or an exec. Fills pid, pidfd and status. Returns 0, or -1 with errno and *index. */
int spawn_init(struct process *process, const struct oplist *list, const struct op *clone, int *index);
int spawn_exec(struct process *process, const struct oplist *list, int *index);

/* process.c */
struct process *process_new(uint16_t number, uint32_t stdio, uint32_t size);
struct process *process_find(uint16_t number);
void process_watch(struct process *process);
void process_discard(struct process *process);
void process_reap(void);
void process_failed(struct process *process, int error, int index, const char *call);
bool processes_ended(void);

/* stdio.c */
int stdio_open(struct process *process, int child_end[3]);
void stdio_take_terminal(struct process *process, int master);
void stdio_drain(struct process *process);
void stdio_close(struct process *process);
void stdio_resume(struct process *process);
bool stdin_write(struct process *process, const char *data, size_t size);
void stdin_close(struct process *process);
extern char *chunk; /* CHUNK bytes: the one buffer for everything that passes through */

/* session.c */
int session_new(struct process *process, int client, int early, unsigned flags, uint32_t number, const uint8_t *keys);
void session_output(struct process *process, int stream, const char *data, size_t size);
bool session_blocked(const struct process *process);
void session_input(struct process *process);
void session_end_all(struct process *process);
void session_drop_all(struct process *process);
int session_expire(void); /* ms until the next one has to go; -1: none */
bool sessions_ended(void);
void session_idle(void);

/* control.c */
void control_adopt(int fd);
bool control_wait_go(void);
int control_listen(void);
void control_unlisten(void);
void control_send(struct connection *to, struct record record, int fd); /* to NULL: everybody */

/* exec.c */
void exec_start(struct connection *asker, const struct record *record, int fds[4]);

/* oom.c */
int oom_watch_v1(const char *cgroup);
int oom_watch_v2(const char *cgroup);
uint32_t oom_count(void);

#endif
