/* Makes the system calls that its arguments describe and prints one line for each: the errno, 0 for success, or
 * "died" and a signal.
 *
 *     probe 64:NUMBER[:ARGUMENT...] 32:NUMBER[:ARGUMENT...] ...
 *
 * A call of 32 goes through the gate of 32-bit programs. Each is made in a process of its own, which is ended after a
 * moment when it waits for something; a call that does not come back has got through, so its line is 0. An argument
 * "p" is the address of zeros.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static char zeros[4096];

static long call32(const long *args)
{
    long answer;
    __asm__ volatile("push %%rbp; xor %%ebp, %%ebp; int $0x80; pop %%rbp"
                     : "=a"(answer)
                     : "a"(args[0]), "b"(args[1]), "c"(args[2]), "d"(args[3]), "S"(args[4]), "D"(args[5])
                     : "memory", "cc", "r8", "r9", "r10", "r11");
    return answer;
}

static int parse(char *text, long args[7])
{
    int bits = strtol(text, &text, 0), n = 0;
    while (*text == ':' && n < 7) {
        if (text[1] == 'p') {
            args[n++] = (long)zeros;
            text += 2;
        } else
            args[n++] = (long)strtoul(text + 1, &text, 0);
    }
    return bits;
}

static void try(char *text, volatile int *answer)
{
    long args[7] = {0};
    int bits = parse(text, args);
    struct itimerval moment = {{0, 0}, {0, 200000}};
    setitimer(ITIMER_REAL, &moment, NULL);
    long result = bits == 32 ? call32(args)
                             : syscall(args[0], args[1], args[2], args[3], args[4], args[5], args[6]);
    if (result < 0)
        *answer = bits == 32 ? (int)-result : errno;
    _exit(0);
}

int main(int argc, char **argv)
{
    volatile int *answer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 1; i < argc; i++) {
        int status;
        *answer = 0;
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0)
            try(argv[i], answer);
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
            printf("died %d\n", WTERMSIG(status));
        else
            printf("%d\n", *answer);
    }
    return 0;
}
