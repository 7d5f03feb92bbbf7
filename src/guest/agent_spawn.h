/* The child of a keeper that becomes a command. */
#ifndef BOOTMATRIX_AGENT_SPAWN_H
#define BOOTMATRIX_AGENT_SPAWN_H

#include <sys/types.h>

#include "agent_request.h"

/* Start a command, which gets the descriptors as standard input, output and error. Returns its process id, or -1 with errno,
 * and in `step` what failed. */
pid_t spawn(const struct request *request, const int fds[3], const char **step);

#endif
