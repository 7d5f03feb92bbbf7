/* The keeper: process 1 of the namespaces in which the agent's commands run; one for each root. It starts and reaps them. */
#ifndef BOOTMATRIX_AGENT_KEEPER_H
#define BOOTMATRIX_AGENT_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEEPER_NAME "bootmatrix-keeper"
#define KEEPER_SOCKET 3
#define KEEPER_COMMANDS 64

/* The agent's message; a request (request.h) follows RUN, with three descriptors unless it is for a terminal. */
struct keeper_ask {
	uint32_t id;
	enum { ASK_RUN, ASK_SIGNAL } kind;
	uint32_t signal;
};

/* The keeper's message. STARTED has the descriptor of a terminal, if there is one. */
struct keeper_reply {
	uint32_t id;
	enum { REPLY_READY, REPLY_STARTED, REPLY_ENDED, REPLY_FAULT } kind;
	int status; /* as of waitpid, or errno */
	char text[120];
};

/* Send a message with descriptors; 0, or -1 with errno. */
int send_message(int socket, const void *head, size_t head_bytes, const void *body, size_t body_bytes, const int *fds,
		 size_t count);

/* Receive a message; its length, 0 at the end, -1 with errno. `fds` has room for 3 and gets -1 where there are fewer. */
long receive_message(int socket, void *data, size_t room, int fds[3]);

/* Start a keeper for a root; its socket, or -1 with errno. */
int keeper_start(const char *root, bool privileged);

/* The keeper's program: `bootmatrix-keeper ROOT default|privileged`. */
int keeper_main(int argc, char **argv);

/* Mount what programs expect below a root, and make it this process' root; NULL, or what failed with errno set. */
const char *enter_root(const char *root, bool privileged);

#endif
