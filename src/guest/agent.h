/* The agent: runs commands, copies files and connects to ports, as the host requests by frames (docs/agent.md). */
#ifndef BOOTMATRIX_AGENT_H
#define BOOTMATRIX_AGENT_H

/* The exit status of an agent that was told to shut the guest down. */
#define AGENT_SHUTDOWN 88

/* Serve the host on a channel until it is closed; the agent's exit status. `window` is what a sender may send in advance. */
int agent_serve(int in, int out, unsigned window);

#endif
