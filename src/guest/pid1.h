/* A service that is the guest's first process, such as systemd: init goes on beside it. */
#ifndef BOOTMATRIX_PID1_H
#define BOOTMATRIX_PID1_H

#include <stdbool.h>

/* If the spec has such a service, go on in a child; the first process waits. It never knows the boot's secret. */
void leave_pid1(void);

/* Whether a service is the one. */
bool is_pid1(const char *name);

/* Have the first process become that service. Return whether it was told. */
bool start_pid1(void);

#endif
