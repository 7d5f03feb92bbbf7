/* Output of a container or daemon: printed line by line, and searched for TAP. */
#ifndef BOOTMATRIX_OUTPUT_H
#define BOOTMATRIX_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "tap.h"

struct output {
	int file; /* reading end of a pipe, -1 when it is closed */
	const char *name;
	char *data;
	size_t start, end; /* read and not printed yet */
	size_t unread;   /* bytes that its process left in the pipe at its end */
	bool is_ended;   /* its process has ended */
	bool is_drained; /* what the process printed is on the console; processes left behind may print on */
	struct tap tap;
};

/* Begin: the file must not block. The name is used until the end. */
void output_open(struct output *output, int file, const char *name);

/* The process has ended: what is in the pipe now is its last output. */
void output_end(struct output *output);

/* Whether to wait for more. */
bool output_is_wanted(const struct output *output);

/* Read what is there, and print it as far as the console has room. */
void output_take(struct output *output);

/* Print what was read, as far as the console has room. */
void output_print(struct output *output);

void output_close(struct output *output);

#endif
