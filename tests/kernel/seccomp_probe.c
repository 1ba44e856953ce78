/* Loads the filter in argv[1], then makes the calls of the rest, "64:NR:ARG0" or "32:NR:ARG0", and prints each errno. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static long call32(long nr, long arg0)
{
	long answer;

	/* The gate of 32-bit programs; the kernel takes eax, ebx, ecx and so on. */
	__asm__ volatile("int $0x80" : "=a"(answer) : "a"(nr), "b"(arg0), "c"(0), "d"(0), "S"(0), "D"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	return answer;
}

int main(int argc, char **argv)
{
	static struct sock_filter code[4096];
	int fd = open(argv[1], O_RDONLY);
	ssize_t size = read(fd, code, sizeof(code));
	struct sock_fprog program = { .len = size / sizeof(code[0]), .filter = code };

	if (size <= 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return perror("seccomp"), 125;
	for (int i = 2; i < argc; i++) {
		char *end;
		int bits = strtol(argv[i], &end, 0);
		long nr = strtol(end + 1, &end, 0);
		unsigned long arg0 = strtoul(end + 1, NULL, 0);
		long answer;

		errno = 0;
		answer = bits == 32 ? call32(nr, arg0) : syscall(nr, arg0, 0, 0, 0, 0, 0);
		printf("%ld\n", answer >= 0 ? 0 : bits == 32 ? -answer : errno);
	}
	fflush(stdout);
	return 0;
}
