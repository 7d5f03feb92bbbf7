#include "loop.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "console.h"
#include "control.h"
#include "host.h"
#include "runs.h"
#include "services.h"
#include "util.h"

enum { CONSOLE_MS = 10 }; /* some drivers do not wake who waits for room */

static int ends = -1;

void open_loop(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	ends = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void handle_ends(void)
{
	struct run *run;

	while ((run = next_ended()) != NULL)
		run_ended(run);
}

void take_ends(void)
{
	while (reap())
		;
	handle_ends();
}

static size_t count_runs(void)
{
	size_t count = 0;

	for (struct run *run = runs; run; run = run->next)
		count++;
	return count;
}

static size_t add_outputs(struct pollfd *files)
{
	size_t count = 0;

	if (!console_has_room())
		return 0;
	for (struct run *run = runs; run; run = run->next)
		if (output_is_wanted(&run->output))
			files[count++] = (struct pollfd){ .fd = run->output.file, .events = POLLIN };
	return count;
}

/* Read the outputs that are ready. */
static void take_outputs(const struct pollfd *files, size_t count)
{
	size_t i = 0;

	for (struct run *run = runs; run && i < count; run = run->next)
		if (files[i].fd == run->output.file && files[i++].revents)
			output_take(&run->output);
}

/* What waits for room on the console has nothing else to wake it, if the console has taken all at once. */
static void print_waiting(void)
{
	console_push();
	for (struct run *run = runs; run; run = run->next)
		output_print(&run->output);
}

/* Services that have been started again leave ended runs behind. */
static void forget_old_runs(void)
{
	for (struct run *run = runs, *next; run; run = next) {
		next = run->next;
		if (run->is_replaced && is_read(run) && run->output.file < 0)
			forget_run(run);
	}
}

static void take_signals(void)
{
	struct signalfd_siginfo signals[8];

	while (read(ends, signals, sizeof signals) > 0)
		;
}

void pump(int64_t until_ms)
{
	struct pollfd *files = allocate(NULL, (3 + count_runs() + control_count()) * sizeof *files);
	size_t outputs, count = 2;
	bool is_more;

	print_waiting();
	files[0] = (struct pollfd){ .fd = ends, .events = POLLIN };
	files[1] = (struct pollfd){ .fd = console_is_pending() ? console_file() : -1, .events = POLLOUT };
	outputs = add_outputs(files + 2);
	count += outputs;
	files[count++] = host_poll();
	count += control_poll(files + count, &until_ms);
	if (console_is_pending() && now_ms() + CONSOLE_MS < until_ms)
		until_ms = now_ms() + CONSOLE_MS;
	poll(files, count, wait_ms(until_ms));
	if (files[0].revents)
		take_signals();
	console_push();
	take_outputs(files + 2, outputs);
	do
		is_more = reap();
	while (is_more && !console_is_pending());
	handle_ends();
	control_step(restart_for_container);
	host_step(restart_service);
	forget_old_runs();
	console_push();
	free(files);
}
