/* Onboot and onshutdown containers, services, checks and daemons: docs/guest-protocol.md. */
#ifndef BOOTMATRIX_SERVICES_H
#define BOOTMATRIX_SERVICES_H

#include <stdbool.h>

#include "runs.h"

/* Handle the end of a run. */
void run_ended(struct run *run);

/* Begin to restart a service; NULL, or why it cannot be restarted. The host is told when it is done. */
const char *restart_service(const char *name);

/* Restart a service at a container's request. */
void restart_for_container(const char *name);

/* Send the TAP of a run. */
void say_tap(struct run *run);

/* Run the containers of a section in sequence. Return whether all of onboot succeeded. */
bool run_section(const char *section);

/* Start daemons, services and checks, and wait for the checks; without any, see services stay up for a while. */
void run_services(void);

/* Start daemons and services, and the agent; return when the host tells it to shut down. Checks are set up and not run. */
void serve_host(void);

/* Keep a guest that has failed as it is, with the agent, until the host tells it to shut down. */
void hold(void);

/* Wait until the host has fetched the result files that were not sent whole. */
void collect(void);

/* Stop all services. */
void stop_services(void);

#endif
