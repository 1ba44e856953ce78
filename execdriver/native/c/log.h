/* The log of the init's output, in the format of Docker's json-file driver, written by the shim itself. */
#ifndef WINDLASS_LOG_H
#define WINDLASS_LOG_H
#include <stddef.h>
#include <stdint.h>

/* Open the log for appending, rotated at `max_size` bytes (0: never) into at most `max_files` files.
 * Returns 0, or -1 with errno. */
int log_open(const char *path, uint64_t max_size, unsigned max_files);

/* Add output of stream 1 (stdout) or 2 (stderr), to be written by log_flush. Does nothing without a log. */
void log_output(int stream, const char *data, size_t size);

/* Write what has been added: one write(2) a batch, however many lines there are. */
void log_flush(void);

/* The stream has ended: its last line may lack a newline. */
void log_end(int stream);

/* Start a new file now. Returns 0, or -1 with errno; ENOENT without a log. */
int log_rotate(void);

/* Lines that did not get into the file: the disk was full. A container never waits for its log. */
extern uint32_t log_dropped;

/* Give buffers without content back to the kernel. */
void log_idle(void);

/* The encoder alone, for tests and fuzzing: `size` bytes at most 16384, `out` has room for six times that and 200.
 * Returns the end of the entry. */
char *log_entry(char *out, int stream, const char *data, size_t size, int64_t time_ns);

#endif
