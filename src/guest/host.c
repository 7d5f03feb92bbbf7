#include "host.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"

enum { MOST = 16 };

static int end = -1;
static struct host_ask asks[MOST]; /* id 0: not in use */

int host_open(void)
{
	int ends[2];

	memset(asks, 0, sizeof asks);
	if (end >= 0)
		close(end);
	end = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
		return -1;
	end = ends[0];
	return ends[1];
}

struct pollfd host_poll(void)
{
	return (struct pollfd){ .fd = end, .events = POLLIN };
}

static void answer(uint32_t id, const char *fault)
{
	struct host_answer message = { .id = id };

	snprintf(message.fault, sizeof message.fault, "%s", fault);
	send(end, &message, sizeof message, MSG_NOSIGNAL);
}

static void take(const struct host_ask *ask, const char *(*restart)(const char *service))
{
	struct host_ask *free_ask = NULL;
	const char *fault;

	for (int i = 0; i < MOST && !free_ask; i++)
		if (asks[i].id == 0)
			free_ask = &asks[i];
	if (free_ask == NULL) {
		answer(ask->id, "too many restarts at once");
		return;
	}
	fault = is_service_name(ask->service) ? restart(ask->service) : "not the name of a service";
	if (fault)
		answer(ask->id, fault);
	else
		*free_ask = *ask;
}

void host_step(const char *(*restart)(const char *service))
{
	struct host_ask ask;
	ssize_t size;

	while (end >= 0 && (size = recv(end, &ask, sizeof ask, 0)) >= 0) {
		if (size == 0) { /* the agent is gone */
			close(end);
			end = -1;
		} else if (size == (ssize_t)sizeof ask && ask.id && memchr(ask.service, 0, sizeof ask.service)) {
			take(&ask, restart);
		}
	}
}

void host_tell(const char *service, const char *fault)
{
	for (int i = 0; i < MOST; i++)
		if (asks[i].id && strcmp(asks[i].service, service) == 0) {
			answer(asks[i].id, fault);
			asks[i].id = 0;
		}
}
