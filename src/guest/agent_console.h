/* The agent's channel on machines without ports: signed lines among the other output of the console (docs/agent.md). */
#ifndef BOOTMATRIX_AGENT_CONSOLE_H
#define BOOTMATRIX_AGENT_CONSOLE_H

#include <stdint.h>

#include "sha256.h"

/* Move bytes between the agent's socket and lines of a console, which do not block, until one is closed. */
void console_relay(int console, int agent, const uint8_t key[SHA256_BYTES], int64_t repeat_ms);

#endif
