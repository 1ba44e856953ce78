/* windlass-shim init -- PROGRAM [ARG...]: the first process of a container that was created with `--init`.
 *
 * It runs PROGRAM, passes every signal on to it, reaps whatever is orphaned to it, and ends as PROGRAM did.  It is
 * bound into the container read-only, and is therefore the one mode that strangers can start: it needs no privilege,
 * opens nothing and keeps nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "modes.h"

enum { NOT_THERE = 127, NOT_EXECUTABLE = 126 };

/* Everything but what tells of our own faults. */
static sigset_t passed_on(void)
{
    static const int own[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&set, own[i]);
    return set;
}

/* The program gets a process group of its own, in the foreground where there is a terminal: a key that interrupts
 * reaches it once, from the terminal, and not a second time from us. */
static void become(char **argv, const sigset_t *before)
{
    setpgid(0, 0);
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);
    if (terminal >= 0) {
        tcsetpgrp(terminal, getpgrp()); /* SIGTTOU is still blocked */
        close(terminal);
    }
    sigprocmask(SIG_SETMASK, before, NULL);
    execvp(argv[0], argv);
    int error = errno;
    fprintf(stderr, "exec %s failed: %s\n", argv[0], strerror(error));
    _exit(error == ENOENT || error == ENOTDIR ? NOT_THERE : NOT_EXECUTABLE);
}

/* Reap everybody. Returns true, and the exit status, when `program` was among them. */
static bool reap(pid_t program, int *exit_status)
{
    bool ended = false;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == program) {
            ended = true;
            *exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        }
    return ended;
}

int init_main(int argc, char **argv)
{
    int first = argc > 1 && !strcmp(argv[1], "--") ? 2 : 1, exit_status = 0;
    if (first >= argc) {
        fputs("usage: windlass-shim init -- PROGRAM [ARG...]\n", stderr);
        return 64;
    }
    sigset_t set = passed_on(), before;
    sigprocmask(SIG_SETMASK, &set, &before);
    pid_t program = fork();
    if (program == 0)
        become(argv + first, &before);
    if (program < 0) {
        fprintf(stderr, "fork failed: %s\n", strerror(errno));
        return NOT_EXECUTABLE;
    }
    for (siginfo_t info;;) {
        int number = sigwaitinfo(&set, &info);
        if (number == SIGCHLD) {
            if (reap(program, &exit_status))
                return exit_status;
        } else if (number > 0)
            kill(program, number);
    }
}
