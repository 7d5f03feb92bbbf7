#include "services.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "bundle.h"
#include "checks.h"
#include "console.h"
#include "host.h"
#include "loop.h"
#include "pid1.h"
#include "report.h"
#include "runtime.h"
#include "settings.h"
#include "stuck.h"
#include "util.h"

#define STOPS "/etc/bootmatrix/stops"

enum { RESTART_S = 10, STOP_S = 2, KILL_S = 10, COLLECT_S = 900, SETTLE_S = 2, DRAIN_S = 2, RETRY_MS = 100, REFUSALS = 10, AGENTS = 5 };

static bool is_stopping, is_released;
static int refusals, agents;

static int64_t after_s(int64_t seconds)
{
	return now_ms() + seconds * settings.scale * 1000;
}

static void fail_service(const struct run *run, int status)
{
	set_failed();
	say("service %s exit %d", run->name, status);
}

static void start_service(const char *name)
{
	char *folder = format("services/%s", name);

	say("service %s start", name);
	if (!is_pid1(name))
		launch(RUN_SERVICE, folder, name)->is_alive = true;
	else if (!start_pid1())
		say_error("the guest's first process has ended");
	free(folder);
}

/* A restart accepts the end by its signal only, and the other one if that was not within the limit. */
static bool is_restart(const struct run *run)
{
	if (run->status == 128 + SIGKILL)
		return is_stopping || run->is_killed;
	return run->status == 0 || run->status == 128 + SIGTERM;
}

/* An end is expected of a service that was running when it was stopped, and of one being restarted. */
static void service_ended(struct run *run)
{
	run->is_alive = false;
	if (run->is_restarting) { /* also if it was told to stop for good meanwhile */
		run->is_restarting = false;
		if (!is_restart(run)) {
			fail_service(run, run->status);
			host_tell(run->name, "it did not end by the signal");
		} else if (!is_stopping) {
			runtime_delete(run->id);
			run->is_replaced = true;
			start_service(run->name);
			host_tell(run->name, "");
		}
	} else if (!run->is_stopped) {
		fail_service(run, run->status);
	}
}

static void agent_ended(struct run *run)
{
	run->is_replaced = true;
	is_released = run->status == AGENT_SHUTDOWN || agents++ >= AGENTS;
	if (!is_released)
		launch_agent();
}

void run_ended(struct run *run)
{
	if (run->kind == RUN_SERVICE)
		service_ended(run);
	else if (run->kind == RUN_DAEMON)
		fail_service(run, run->status);
	else if (run->kind == RUN_AGENT)
		agent_ended(run);
	else if (run->kind == RUN_CHECK)
		check_ended(run);
}

/* A service that has ended by now ended unasked, however late that is seen. */
const char *restart_service(const char *name)
{
	struct run *run;

	take_ends();
	if (is_stopping)
		return "the guest shuts down";
	run = runs;
	while (run && !(run->is_alive && strcmp(run->name, name) == 0))
		run = run->next;
	if (run == NULL)
		return "not a running service";
	if (run->is_restarting)
		return "already being restarted";
	if (!kill_run(run, SIGTERM))
		return "not running";
	say("service %s restart", name);
	run->is_restarting = true;
	run->is_killed = false;
	run->limit_ms = after_s(RESTART_S);
	return NULL;
}

void restart_for_container(const char *name)
{
	const char *fault = is_stopping ? NULL : restart_service(name);

	if (fault && refusals++ < REFUSALS)
		console_print("cannot restart %s: %s", name, fault);
}

/* Kill services that do not stop in time for their restart. */
static void expire_restarts(void)
{
	for (struct run *run = runs; run; run = run->next) {
		if (!run->is_restarting || run->is_killed || now_ms() < run->limit_ms)
			continue;
		run->is_killed = true;
		run->limit_ms = NEVER;
		say_note("service %s did not stop on TERM and was killed for its restart", run->name);
		kill_run(run, SIGKILL);
	}
}

/* Wait for an event or for the first limit of a run, at most until a time. */
static void wait_for_event(int64_t until_ms)
{
	for (struct run *run = runs; run; run = run->next)
		if ((run->is_restarting || run->is_open) && run->limit_ms < until_ms)
			until_ms = run->limit_ms;
	pump(until_ms);
	expire_restarts();
	expire_checks();
}

/* Run a bundle to its end. Return its run; NULL if it cannot be set up. */
static struct run *run_bundle(const char *folder, const char *name)
{
	struct run *run;

	if (!set_up(folder))
		return NULL;
	run = launch(RUN_SECTION, folder, name);
	while (!is_read(run))
		pump(NEVER);
	return run;
}

void say_tap(struct run *run)
{
	struct tap *tap = &run->output.tap;
	char *data, *text;

	if (tap->size == 0)
		return;
	data = packed(tap->text, tap->size);
	text = format("tap %s %s", run->name, data);
	say_text(text);
	free(text);
	free(data);
	free(tap->text);
	*tap = (struct tap){ .is_full = true };
}

/* Run a container of a section. Return whether it succeeded. */
static bool run_container(const char *section, const char *folder)
{
	const char *name = strchr(folder, '-') ? strchr(folder, '-') + 1 : folder;
	char *bundle = format("%s/%s", section, folder);
	struct run *run;
	int status;

	say("%s %s start", section, name);
	run = run_bundle(bundle, name);
	status = run ? run->status : 1;
	if (status != 0)
		set_failed();
	if (run)
		say_tap(run);
	say_files(bundle, name);
	say("%s %s exit %d", section, name, status);
	free(bundle);
	return status == 0;
}

bool run_section(const char *section)
{
	char *path = format("/containers/%s", section), **folders = list_folder(path);
	bool is_onboot = strcmp(section, "onboot") == 0, is_done = true;

	for (size_t i = 0; folders[i] && (is_done || !is_onboot); i++)
		is_done = run_container(section, folders[i]);
	free_list(folders);
	free(path);
	return is_done;
}

static void start_daemons(void)
{
	char **names = list_folder("/etc/bootmatrix/daemons");

	for (size_t i = 0; names[i]; i++)
		launch_daemon(names[i]);
	free_list(names);
}

static bool start_services(void)
{
	char **names = list_folder("/containers/services");
	bool is_done = true;

	for (size_t i = 0; names[i] && is_done; i++) {
		char *folder = format("services/%s", names[i]);

		is_done = set_up(folder);
		free(folder);
		if (is_done && !is_check(names[i]))
			start_service(names[i]);
	}
	free_list(names);
	if (is_done)
		say("services up");
	return is_done;
}

static bool is_anything_up(void)
{
	struct run *run = runs;

	while (run && !run->is_alive && run->kind != RUN_DAEMON)
		run = run->next;
	return run != NULL;
}

/* Services without a check have to stay up for a while. */
static void settle(void)
{
	int64_t until_ms = after_s(SETTLE_S);

	while (is_anything_up() && now_ms() < until_ms && !is_failed())
		wait_for_event(until_ms);
}

void run_services(void)
{
	start_daemons();
	if (!start_services())
		return;
	start_checks();
	if (!has_open_checks())
		settle();
	while (has_open_checks() && !is_failed()) {
		wait_for_event(NEVER);
		report_checks();
	}
	fail_skipped_checks();
}

void hold(void)
{
	console_print("the guest has failed and is held");
	launch_agent();
	while (!is_released)
		wait_for_event(NEVER);
}

void serve_host(void)
{
	start_daemons();
	if (!start_services())
		return;
	launch_agent();
	while (!is_released)
		wait_for_event(NEVER);
}

/* The host fetches the rest of the result files by the agent; no container runs any more. */
void collect(void)
{
	int64_t until_ms = after_s(COLLECT_S);

	if (!has_more_files())
		return;
	say("collect");
	is_released = false; /* it was, if the guest was held */
	launch_agent();
	while (!is_released && now_ms() < until_ms)
		wait_for_event(until_ms);
}

static bool is_any_alive(void)
{
	struct run *run = runs;

	while (run && !run->is_alive)
		run = run->next;
	return run != NULL;
}

/* Begin the stop of all services; each has seconds of its own. Return when the last of them are over. */
static int64_t begin_stop(void)
{
	int64_t last_ms = 0;

	for (struct run *run = runs; run; run = run->next) {
		if (!run->is_alive)
			continue;
		run->is_signalled = run->is_killed = false;
		run->limit_ms = after_s(listed_seconds(STOPS, run->name, STOP_S));
		if (run->limit_ms > last_ms)
			last_ms = run->limit_ms;
	}
	return last_ms;
}

/* Kill a service whose time to stop is over. One that could not be signalled did not ignore the signal. */
static void expire_stop(struct run *run, int64_t since_ms)
{
	if (run->is_signalled)
		say("service %s killed %lld", run->name, (long long)(now_ms() - since_ms));
	run->is_killed = true;
	run->is_signalled = false;
}

/* Signal a service that stops. Return when to look at it again. */
static int64_t stop_service(struct run *run, int64_t since_ms)
{
	if (!run->is_killed && now_ms() >= run->limit_ms)
		expire_stop(run, since_ms);
	if (!run->is_signalled && kill_run(run, run->is_killed ? SIGKILL : SIGTERM))
		run->is_signalled = run->is_stopped = true;
	if (!run->is_signalled)
		return now_ms() + RETRY_MS; /* it is being started, or has ended */
	return run->is_killed ? NEVER : run->limit_ms;
}

static bool is_any_unread(void)
{
	struct run *run = runs;

	while (run && (!run->is_ended || run->output.is_drained))
		run = run->next;
	return run != NULL;
}

/* Read the last output within a limit; then report checks that have ended. */
static void read_outputs(void)
{
	int64_t until_ms = after_s(DRAIN_S);

	while (is_any_unread() && now_ms() < until_ms)
		pump(until_ms);
	for (struct run *run = runs; run; run = run->next)
		if (run->is_ended && !run->output.is_drained)
			say_note("the last output of %s is cut off: reading took too long", run->name);
	report_ended_checks();
}

/* A service that did not end at all: no signal reached it, or the kernel does not let it go. */
static void say_left(const struct run *run)
{
	char *process, *text;

	set_failed();
	if (!run->is_stopped) {
		say_error("cannot determine the end of service %s", run->name);
		return;
	}
	process = stuck_process();
	text = encoded(process, strlen(process));
	say("service %s stuck %s", run->name, *text ? text : "-");
	free(text);
	free(process);
}

static void stop_alive(void)
{
	int64_t since_ms = now_ms(), until_ms = begin_stop() + after_s(KILL_S) - since_ms;

	while (is_any_alive() && now_ms() < until_ms) {
		int64_t next_ms = until_ms;

		for (struct run *run = runs; run; run = run->next) {
			int64_t run_ms = run->is_alive ? stop_service(run, since_ms) : NEVER;

			if (run_ms < next_ms)
				next_ms = run_ms;
		}
		pump(next_ms);
	}
	for (struct run *run = runs; run; run = run->next)
		if (run->is_alive)
			say_left(run);
}

/* A service that has ended by now ended unasked, however late that is seen: it can no longer be stopped. */
void stop_services(void)
{
	take_ends();
	is_stopping = true;
	for (struct run *run = runs; run; run = run->next)
		run->has_results = run->is_alive;
	say("shutdown");
	stop_alive();
	read_outputs();
	for (struct run *run = runs; run; run = run->next)
		if (run->has_results)
			say_files(run->folder, run->name);
}
