/* The agent: runs commands, copies files and connects to ports, as the host requests by frames (docs/agent.md). */
#ifndef BOOTMATRIX_AGENT_H
#define BOOTMATRIX_AGENT_H

#include <stdint.h>
#include <sys/types.h>

#include "sha256.h"

/* The exit status of an agent that was told to shut the guest down. */
#define AGENT_SHUTDOWN 88

/* Serve the host on a channel until it is closed; the agent's exit status. `window` is what a sender may send in advance.
 * `token` precedes the greeting: only an agent of this boot knows it. It is wiped. */
int agent_serve(int in, int out, unsigned window, uint8_t token[SHA256_BYTES]);

/* Set the connection to init, for requests to it. */
void agent_use_init(int socket);

#define AGENT_PORT "org.bootmatrix.agent"

/* Open the agent's port, if the host uses it, for all agents to come: no container can open it any more. */
void agent_hold_port(void);

/* Start the agent in a process of its own, on its port or on the console as the settings say; its id, or -1. When it ends
 * with another status than AGENT_SHUTDOWN it was killed or confused, and can be started again. */
pid_t agent_start(void);

#endif
