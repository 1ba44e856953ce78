/* Watching for kills by the memory controller: v1 by eventfd, v2 by inotify; both count `oom_kill`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "shim.h"
#include "sys.h"

static int counter = -1; /* memory.oom_control (v1) or memory.events (v2) */
static uint32_t at_start, told;

static uint32_t read_counter(void)
{
    char text[512];
    ssize_t n = pread(counter, text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = 0;
    const char *found = strstr(text, "oom_kill ");
    return found ? strtoul(found + 9, NULL, 10) : 0;
}

uint32_t oom_count(void)
{
    uint32_t now = counter < 0 ? 0 : read_counter();
    return now > at_start + told ? now - at_start : told; /* a cgroup that is gone counts nothing */
}

static void ready(struct source *source, uint32_t events)
{
    char drain[4096], text[16];
    (void)events;
    if (read(source->fd, drain, sizeof drain) <= 0 && errno != EAGAIN)
        source_close(source);
    uint32_t count = oom_count();
    if (count == told)
        return; /* another line of the file has changed, or the cgroup has been removed */
    told = count;
    snprintf(text, sizeof text, "%u\n", count);
    write_file("oom", text);
    control_send(NULL, (struct record){REC_OOM, 0, count, 0, {0}}, -1);
}

static int watch_for(int fd)
{
    static struct source source;
    source = (struct source){.fd = fd, .ready = ready};
    at_start = read_counter();
    watch(&source, EPOLLIN);
    return 0;
}

static int open_in(const char *cgroup, const char *name, int flags)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", cgroup, name);
    return CALL(openat, AT_FDCWD, path, flags | O_CLOEXEC);
}

int oom_watch_v1(const char *cgroup)
{
    char text[64];
    counter = open_in(cgroup, "memory.oom_control", O_RDONLY);
    int control = counter < 0 ? -1 : open_in(cgroup, "cgroup.event_control", O_WRONLY);
    int event = control < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int n = snprintf(text, sizeof text, "%d %d", event, counter);
    int result = event < 0 || write(control, text, n) != n ? -1 : watch_for(event);
    close_keeping_errno(control);
    return result;
}

int oom_watch_v2(const char *cgroup)
{
    char path[4096];
    counter = open_in(cgroup, "memory.events", O_RDONLY);
    int notify = counter < 0 ? -1 : inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    snprintf(path, sizeof path, "%s/memory.events", cgroup);
    syscall_name = "inotify_add_watch";
    return notify < 0 || inotify_add_watch(notify, path, IN_MODIFY) < 0 ? -1 : watch_for(notify);
}
