/* The kernel's own account: its taints, and the records of its log. */
#ifndef BOOTMATRIX_KERNEL_LOG_H
#define BOOTMATRIX_KERNEL_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kernel_log {
	const char *mark; /* text of the record that ends the log */
	size_t most;      /* bytes of all records kept */
	char *worse, *bad; /* records of level err or worse, and others that are kept; each after a blank */
	size_t worse_bytes, bad_bytes;
	int64_t first; /* number of the first record, -1 before it */
	unsigned errors, left;
};

/* Add a record as read from /dev/kmsg. Return whether it is the mark, which is not kept. */
bool kernel_log_add(struct kernel_log *log, const char *record, size_t size);

/* Send the account. */
void say_kernel(const char *first_level);

#endif
