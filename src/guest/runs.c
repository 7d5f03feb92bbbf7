#include "runs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "bundle.h"
#include "report.h"
#include "runtime.h"
#include "settings.h"
#include "util.h"

enum {
	WAITING = 3,        /* runtimes that a template starts */
	WAITING_S = 20,
	STEP_MS = 20,       /* between looks at them */
	LOOKS = 3,
	REAP_AT_ONCE = 256, /* before outputs are read again */
};

struct run *runs;

static struct run *add_run(enum run_kind kind, const char *folder, const char *name, char *id)
{
	struct run *run = allocate(NULL, sizeof *run), **place = &runs;

	*run = (struct run){ .kind = kind, .id = id, .status = STATUS_UNKNOWN, .limit_ms = NEVER, .process = -1 };
	run->folder = format("%s", folder);
	run->name = format("%s", name);
	while (*place)
		place = &(*place)->next;
	return *place = run;
}

/* Follow a process with its output; one that could not be started has ended. */
static void follow(struct run *run, pid_t process, int file)
{
	run->process = process;
	output_open(&run->output, process > 0 ? file : -1, run->name);
	if (process > 0)
		return;
	say_error("cannot start %s: %s", run->name, strerror(errno));
	run->status = 127;
	output_end(&run->output);
}

static char *waiting_folder(const struct run *run)
{
	return format(STATE "/waiting/%s", run->id);
}

/* Most of a small container's time is its runtime's start. So a template starts some runtimes in advance; they wait on a
 * pipe for their configuration, and continue in a copy. */
static bool start_waiting(int number)
{
	struct run *run = add_run(RUN_WAITING, "", "", format("waiting.%d", number));
	char *folder = waiting_folder(run), *config = format("%s/config.json", folder);
	pid_t process = -1;
	int file = -1;
	bool is_made = make_folders(folder) && mkfifo(config, 0600) == 0;

	if (is_made)
		process = runtime_run(folder, config, run->id, &file);
	if (is_made)
		follow(run, process, file);
	free(folder);
	free(config);
	return is_made && run->process > 0;
}

static bool is_asleep(const struct run *run)
{
	char path[64], line[512], *end;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)run->process);
	return read_line(path, line, sizeof line) && (end = strrchr(line, ')')) != NULL && strncmp(end, ") S ", 4) == 0;
}

static bool are_asleep(void)
{
	for (struct run *run = runs; run; run = run->next)
		if (run->kind == RUN_WAITING && !is_asleep(run))
			return false;
	return true;
}

/* Wait until all are asleep, several times in a row; forget all otherwise. */
static void wait_until_asleep(void)
{
	int64_t until_ms = now_ms() + WAITING_S * settings.scale * 1000;

	for (int looks = 0; looks < LOOKS; looks++) {
		if (now_ms() > until_ms)
			break;
		poll(NULL, 0, STEP_MS);
		if (!are_asleep())
			looks = -1;
	}
	for (struct run *run = runs; run; run = run->next)
		if (run->kind == RUN_WAITING && now_ms() > until_ms)
			run->kind = RUN_SECTION; /* is never handed anything */
}

void start_waiting_runtimes(void)
{
	if (!find_runtime() || !is_crun())
		return;
	for (int number = 1; number <= WAITING; number++)
		if (!start_waiting(number))
			return;
	wait_until_asleep();
}

static struct run *find_waiting(void)
{
	struct run *run = runs;

	while (run && (run->kind != RUN_WAITING || run->process <= 0))
		run = run->next;
	return run;
}

/* Give a waiting runtime its configuration. It reads that twice, the second time from a file. */
static bool give_config(const struct run *run, const char *folder)
{
	char *at = waiting_folder(run), *pipe = format("%s/config.json", at), *root = format("%s/rootfs", at);
	char *path = format("/containers/%s/config.json", folder), *rootfs = format("/containers/%s/rootfs", folder);
	char *config = read_all(path);
	int file = open(pipe, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	bool is_given = config && file >= 0 && symlink(rootfs, root) == 0 && unlink(pipe) == 0 &&
	                symlink(path, pipe) == 0 && write_all(file, config, strlen(config));

	if (file >= 0)
		close(file);
	free(at);
	free(pipe);
	free(root);
	free(path);
	free(rootfs);
	free(config);
	return is_given;
}

static struct run *hand_over(enum run_kind kind, const char *folder, const char *name)
{
	struct run *run = find_waiting();

	if (run == NULL)
		return NULL;
	run->kind = RUN_SECTION;
	if (!give_config(run, folder))
		return NULL;
	run->kind = kind;
	free(run->name);
	free(run->folder);
	run->name = format("%s", name);
	run->output.name = run->name;
	run->folder = format("%s", folder);
	return run;
}

static struct run *start_container(enum run_kind kind, const char *folder, const char *name)
{
	struct run *run = add_run(kind, folder, name, format("%s", folder));
	char *bundle = format("/containers/%s", folder);
	int file = -1;
	pid_t process;

	*strchr(run->id, '/') = '.';
	process = runtime_run(bundle, NULL, run->id, &file);
	follow(run, process, file);
	free(bundle);
	return run;
}

struct run *launch(enum run_kind kind, const char *folder, const char *name)
{
	struct run *run;

	put_binds(folder);
	run = hand_over(kind, folder, name);
	return run ? run : start_container(kind, folder, name);
}

struct run *launch_daemon(const char *name)
{
	struct run *run = add_run(RUN_DAEMON, "", name, format("%s", ""));
	char *program = format("/etc/bootmatrix/daemons/%s", name);
	char *argv[] = { program, NULL };
	int file = -1;
	pid_t process = start_program(argv, &file);

	follow(run, process, file);
	free(program);
	return run;
}

void launch_agent(void)
{
	struct run *run = add_run(RUN_AGENT, "", "agent", format("%s", ""));

	follow(run, agent_start(), -1);
}

bool kill_run(const struct run *run, int signal)
{
	return run->status == STATUS_UNKNOWN && runtime_kill(run->process, run->id, signal);
}

bool is_read(const struct run *run)
{
	return run->is_ended && run->output.is_drained;
}

static void set_status(pid_t process, int status)
{
	struct run *run = runs;

	while (run && run->process != process)
		run = run->next;
	if (run == NULL)
		return; /* an orphan */
	run->process = -1;
	if (run->status == STATUS_UNKNOWN)
		run->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	output_end(&run->output);
}

bool reap(void)
{
	for (int i = 0; i < REAP_AT_ONCE; i++) {
		int status;
		pid_t process = waitpid(-1, &status, WNOHANG);

		if (process <= 0)
			return false;
		set_status(process, status);
	}
	return true;
}

struct run *next_ended(void)
{
	struct run *run = runs;

	while (run && (run->is_ended || !run->output.is_ended))
		run = run->next;
	if (run)
		run->is_ended = true;
	return run;
}

void forget_run(struct run *run)
{
	struct run **place = &runs;

	while (*place && *place != run)
		place = &(*place)->next;
	if (*place)
		*place = run->next;
	output_close(&run->output);
	free(run->name);
	free(run->folder);
	free(run->id);
	free(run);
}
