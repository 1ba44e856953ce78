/* What sys.h declares. */
#define _GNU_SOURCE

#include "sys.h"

const char *syscall_name = "";
