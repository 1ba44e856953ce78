/* What sys.h declares. */
#include "sys.h"

const char *syscall_name = "";
