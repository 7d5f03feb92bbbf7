/* The OCI runtime, crun or runc. */
#ifndef BOOTMATRIX_RUNTIME_H
#define BOOTMATRIX_RUNTIME_H

#include <stdbool.h>
#include <sys/types.h>

/* Find it among the programs of the init images, and protect it. Return whether there is one. */
bool find_runtime(void);

bool is_crun(void);

/* Whether the clock is after January 2038, and the runtime's time has 32 bits. */
bool is_runtime_outlived(void);

/* Start a bundle's container in the background; its output goes to a pipe. `config` may be NULL. Set the reading end of
 * the pipe. Return the runtime's process, or -1 with errno. */
pid_t runtime_run(const char *bundle, const char *config, const char *id, int *output);

/* Start a program in the same way. */
pid_t start_program(char *const argv[], int *output);

/* Send a signal to a container's first process. Return whether it was running. */
bool runtime_kill(pid_t runtime, const char *id, int signal);

/* Remove what a runtime that was killed has left. */
void runtime_delete(const char *id);

#endif
