#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim.h"

/* Room for `more` bytes at the end. Out of memory: the shim's own work cannot go on for this reader. */
static bool make_room(struct buffer *buffer, size_t more)
{
    if (buffer->start + buffer->used + more <= buffer->size)
        return true;
    if (buffer->start)
        memmove(buffer->data, buffer->data + buffer->start, buffer->used);
    buffer->start = 0;
    size_t size = (buffer->used + more + CHUNK - 1) / CHUNK * CHUNK;
    if (size <= buffer->size)
        return true;
    void *data = buffer->data ? mremap(buffer->data, buffer->size, size, MREMAP_MAYMOVE)
                              : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return false;
    buffer->data = data;
    buffer->size = size;
    return true;
}

void buffer_put(struct buffer *buffer, const char *data, size_t size)
{
    if (!make_room(buffer, size))
        return;
    memcpy(buffer->data + buffer->start + buffer->used, data, size);
    buffer->used += size;
}

void buffer_taken(struct buffer *buffer, size_t size)
{
    buffer->used -= size;
    buffer->start = buffer->used ? buffer->start + size : 0;
}

void buffer_free(struct buffer *buffer)
{
    if (buffer->data)
        munmap(buffer->data, buffer->size);
    *buffer = (struct buffer){0};
}
