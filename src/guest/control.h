/* Requests of containers, each by a pipe of its own: docs/guest-protocol.md. */
#ifndef BOOTMATRIX_CONTROL_H
#define BOOTMATRIX_CONTROL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONTROL_BYTES = 128 };

/* State of a reader: lines that are too long are ignored as a whole. */
struct request_reader {
	char line[CONTROL_BYTES];
	size_t length;
	bool is_long, has_ignored; /* has_ignored: something was not a request */
};

/* Add a character. Return the service of a whole request, else NULL. The text is valid until the next call. */
const char *request_add(struct request_reader *reader, char byte);

/* Make the pipe of a container. The folder is below /containers. */
bool open_control(const char *folder);

/* Add the pipes that may be read now to a list for poll(2), which has room for control_count() of them; return their
 * number, and lower the time until which to wait. */
size_t control_poll(struct pollfd *files, int64_t *until_ms);

size_t control_count(void);

/* Read what is there, as far as the limits of rate allow; `take` gets the service of each request to restart one. */
void control_step(void (*take)(const char *service));

/* Whether a text may be the name of a service. */
bool is_service_name(const char *text);

#endif
