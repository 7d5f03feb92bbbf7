/* What the agent does itself inside of a root, in a process of its own: its data on standard input and output. */
#ifndef BOOTMATRIX_AGENT_BUILTINS_H
#define BOOTMATRIX_AGENT_BUILTINS_H

#include <stdbool.h>
#include <stddef.h>

#include "agent_request.h"

/* Run one; its exit status. What failed is a line on standard error. */
int builtin_main(enum request_verb verb, char **words);

/* Write a tree that is read from standard input: PATH. */
int put_main(char **words);

/* Send a file or tree: LIMIT PATH [owners SKIPPED...]. With owners, a record of type 'm' is before each other one. */
int get_main(char **words);

/* Connect to a port of loopback or a Unix socket: tcp PORT, or unix PATH. */
int connect_main(char **words);

/* Have the host answer HTTP requests to a port of loopback: PORT. On standard output '+', then for each request its
 * head's length (4 bytes) and the head; on standard input, the answer's length (8 bytes) and the answer. */
int serve_main(char **words);

/* Print what failed with errno; returns 1. */
int complain(const char *step, const char *path);

/* Read as many bytes; false at an error or an early end. */
bool read_exactly(int file, void *data, size_t size);

#endif
