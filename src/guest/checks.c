#include "checks.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bundle.h"
#include "report.h"
#include "services.h"
#include "settings.h"
#include "util.h"

#define CHECKS "/etc/bootmatrix/checks"

enum { SKIPPED = 4 }; /* KSFT_SKIP (tools/testing/selftests/kselftest.h) */

/* Cut the next check off a list of names and seconds. Return its name, or NULL at the end. */
static char *next_check(char **rest, int64_t *limit_s)
{
	char *line = next_word(rest, '\n'), *name;

	if (line == NULL || *line == '\0')
		return NULL;
	name = next_word(&line, ' ');
	if (line == NULL || !parse_number(line, limit_s))
		*limit_s = 1;
	return name;
}

int64_t listed_seconds(const char *path, const char *name, int64_t otherwise)
{
	char *text = read_all(path), *rest = text, *listed;
	int64_t limit_s = 0;
	bool is_listed = false;

	while (!is_listed && (listed = next_check(&rest, &limit_s)) != NULL)
		is_listed = strcmp(listed, name) == 0;
	free(text);
	return is_listed ? limit_s : otherwise;
}

bool is_check(const char *name)
{
	return listed_seconds(CHECKS, name, -1) >= 0;
}

static void start_check(const char *name, int64_t limit_s)
{
	char *folder = format("services/%s", name);
	struct run *run;

	say("check %s start", name);
	run = launch(RUN_CHECK, folder, name);
	run->is_open = true;
	run->limit_ms = now_ms() + limit_s * settings.scale * 1000;
	free(folder);
}

void start_checks(void)
{
	char *text = read_all(CHECKS), *rest = text, *name;
	int64_t limit_s;

	while ((name = next_check(&rest, &limit_s)) != NULL)
		start_check(name, limit_s);
	free(text);
}

bool has_open_checks(void)
{
	struct run *run = runs;

	while (run && !run->is_open)
		run = run->next;
	return run != NULL;
}

/* Its last output has no limit: there is an end to it, and a busy host reads it slowly. The other checks go on beside one
 * that skips its tests: they may fail. */
void check_ended(struct run *run)
{
	if (run->status != 0 && run->status != SKIPPED)
		set_failed();
	run->limit_ms = NEVER;
}

void fail_skipped_checks(void)
{
	for (struct run *run = runs; run; run = run->next)
		if (run->kind == RUN_CHECK && run->status == SKIPPED)
			set_failed();
}

static void expire_check(struct run *run)
{
	set_failed();
	run->limit_ms = NEVER;
	kill_run(run, SIGKILL);
	run->status = STATUS_TIMEOUT;
}

void expire_checks(void)
{
	for (struct run *run = runs; run; run = run->next)
		if (run->is_open && run->status == STATUS_UNKNOWN && now_ms() >= run->limit_ms)
			expire_check(run);
}

static void report_check(struct run *run)
{
	run->is_open = false;
	say_tap(run);
	say_files(run->folder, run->name);
	if (run->status == STATUS_TIMEOUT)
		say("check %s exit timeout", run->name);
	else
		say("check %s exit %d", run->name, run->status);
}

void report_checks(void)
{
	for (struct run *run = runs; run; run = run->next)
		if (run->is_open && is_read(run))
			report_check(run);
}

void report_ended_checks(void)
{
	for (struct run *run = runs; run; run = run->next)
		if (run->is_open && run->status != STATUS_UNKNOWN)
			report_check(run);
}
