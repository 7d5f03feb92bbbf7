/* Requests of the host to init, which its agent passes on: to restart a service. */
#ifndef BOOTMATRIX_HOST_H
#define BOOTMATRIX_HOST_H

#include <poll.h>
#include <stdint.h>

enum { SERVICE_BYTES = 160, ANSWER_BYTES = 120 };

struct host_ask {
	uint32_t id; /* of the agent's channel */
	char service[SERVICE_BYTES];
};

struct host_answer {
	uint32_t id;
	char fault[ANSWER_BYTES]; /* empty: it was done */
};

/* Make a connection for a new agent, in the place of an older one; the agent's end, or -1. */
int host_open(void);

/* What to wait for. */
struct pollfd host_poll(void);

/* Take requests: `restart` begins one, or returns why it cannot. */
void host_step(const char *(*restart)(const char *service));

/* A service was restarted, or was not for a reason: answer those who asked for it. */
void host_tell(const char *service, const char *fault);

#endif
