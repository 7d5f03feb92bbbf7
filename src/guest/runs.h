/* Runs: each start of a container or daemon, with its process, its output and its end. */
#ifndef BOOTMATRIX_RUNS_H
#define BOOTMATRIX_RUNS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "output.h"

enum run_kind { RUN_SECTION, RUN_SERVICE, RUN_CHECK, RUN_DAEMON, RUN_WAITING, RUN_AGENT };

enum { STATUS_UNKNOWN = -1, STATUS_TIMEOUT = -2 };

struct run {
	struct run *next;
	enum run_kind kind;
	char *name;
	char *folder; /* below /containers */
	char *id;     /* of the runtime; with a dot where no folder has one, so that no two clash */
	pid_t process;
	int status;
	struct output output;
	int64_t limit_ms;
	bool is_ended;
	bool is_alive;      /* a service whose end was not handled */
	bool is_open;       /* a check that was not reported */
	bool is_stopped;    /* was running when it was stopped for good */
	bool is_signalled;  /* has got the signal of the stop that goes on */
	bool is_restarting; /* was running when it was stopped for a restart */
	bool is_killed;     /* did not stop in time, for its restart or for good */
	bool is_replaced;    /* was started again */
	bool has_results;    /* a service whose result files are sent */
};

/* All runs, the oldest first. */
extern struct run *runs;

/* Start a bundle's container. */
struct run *launch(enum run_kind kind, const char *folder, const char *name);

/* Start a daemon of an init image. */
struct run *launch_daemon(const char *name);

/* Start the agent, which talks to the host. */
void launch_agent(void);

/* Start runtimes in advance, in a guest to be copied. */
void start_waiting_runtimes(void);

/* Send a signal to a run's container. Return whether it was running. */
bool kill_run(const struct run *run, int signal);

/* Whether a run has ended and its output is printed. */
bool is_read(const struct run *run);

/* Collect ended processes; set the runs' status. Return whether there may be more. */
bool reap(void);

/* Next run whose end was not handled yet; NULL if there is none. */
struct run *next_ended(void);

/* Forget a run that nothing refers to any more. */
void forget_run(struct run *run);

#endif
