/* Parts of the guest's init as a program of the host, for tests/test_guest_init.py:
 *   walk ROOT PATH          print the contents of what a container with this root has at a path, if it is a regular file
 *   kernel-log MARK BYTES   print the account of records on the standard input, one a line
 *   scale                   print the scale that a kernel command line on the standard input sets
 *   tap                     print the lines of the standard input that are kept
 *   requests                print the services of the requests on the standard input
 *   output PROGRAM…         run a program; print its output up to its end, whatever it leaves behind
 *   pump PROGRAM…           the same by init's loop of events; fails if that waits for seconds
 *   copy FROM TO            copy a tree */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "console.h"
#include "control.h"
#include "copy_tree.h"
#include "kernel_log.h"
#include "loop.h"
#include "output.h"
#include "runs.h"
#include "runtime.h"
#include "settings.h"
#include "tap.h"
#include "util.h"
#include "walk.h"

static int walk_to(const char *root, const char *path)
{
	int above = open(root, O_PATH | O_DIRECTORY), file = above >= 0 ? walk(above, path, false) : -1;
	char name[64], data[64];
	struct stat status;
	ssize_t size;

	if (file < 0 || fstat(file, &status) != 0 || !S_ISREG(status.st_mode))
		return 1;
	snprintf(name, sizeof name, "/proc/self/fd/%d", file);
	file = open(name, O_RDONLY);
	size = read(file, data, sizeof data);
	return size < 0 || fwrite(data, 1, (size_t)size, stdout) != (size_t)size;
}

static int account(const char *mark, const char *most)
{
	struct kernel_log log = {.mark = mark, .most = (size_t)atoi(most), .first = -1};
	char *line = NULL;
	size_t room = 0;
	ssize_t size;

	while ((size = getline(&line, &room, stdin)) > 0) {
		line[size - 1] = '\0';
		for (char *end; (end = strstr(line, "\\n"));)
			memcpy(end, "\n ", 2);
		if (kernel_log_add(&log, line, strlen(line)))
			printf("%u %lld %u%s%s\n", log.errors, (long long)log.first, log.left, log.worse ? log.worse : "",
			       log.bad ? log.bad : "");
	}
	free(line);
	free(log.worse);
	free(log.bad);
	return 0;
}

static int scale(void)
{
	char line[4096];

	if (fgets(line, sizeof line, stdin))
		parse_settings(&settings, line);
	printf("%lld\n", (long long)settings.scale);
	return 0;
}

static int tap_lines(void)
{
	struct tap tap = {0};
	char *line = NULL;
	size_t room = 0;
	ssize_t size;

	while ((size = getline(&line, &room, stdin)) > 0)
		tap_add(&tap, line, (size_t)size - 1);
	fwrite(tap.text, 1, tap.size, stdout);
	free(tap.text);
	free(line);
	return 0;
}

static int requests(void)
{
	struct request_reader reader = {0};
	int byte;

	while ((byte = getchar()) != EOF) {
		const char *service = request_add(&reader, (char)byte);

		if (service)
			puts(service);
	}
	puts(reader.has_ignored ? "some ignored" : "none ignored");
	return 0;
}

static int print_output(char **program)
{
	struct output output;
	int ends[2], status;
	pid_t child;

	if (pipe(ends) != 0)
		return 1;
	child = fork();
	if (child == 0) {
		dup2(ends[1], 1);
		execvp(program[0], program);
		_exit(127);
	}
	close(ends[1]);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	console_use(1);
	output_open(&output, ends[0], "name");
	waitpid(child, &status, 0);
	output_end(&output);
	for (int i = 0; i < 10000 && !output.is_drained; i++) {
		if (output_is_wanted(&output))
			output_take(&output);
		else
			output_print(&output);
		console_push();
	}
	console_drain();
	fprintf(stderr, "%s %zu\n", output.is_drained ? "drained" : "not drained", output.tap.lines);
	output_close(&output);
	return 0;
}

static int pump_output(char **program)
{
	static char name[] = "name", none[] = "";
	struct run run = {.kind = RUN_SECTION, .name = name, .folder = none, .id = none, .status = STATUS_UNKNOWN, .limit_ms = NEVER};
	int64_t until_ms = now_ms() + 5000;
	int file = -1;

	open_loop();
	console_use(1);
	run.process = start_program(program, &file);
	output_open(&run.output, file, name);
	runs = &run;
	poll(NULL, 0, 300); /* it has ended, perhaps, before anything is read */
	while (!is_read(&run) && now_ms() < until_ms)
		pump(until_ms);
	console_drain();
	output_close(&run.output);
	return now_ms() >= until_ms;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (strcmp(verb, "walk") == 0 && argc == 4)
		return walk_to(argv[2], argv[3]);
	if (strcmp(verb, "kernel-log") == 0 && argc == 4)
		return account(argv[2], argv[3]);
	if (strcmp(verb, "scale") == 0)
		return scale();
	if (strcmp(verb, "tap") == 0)
		return tap_lines();
	if (strcmp(verb, "requests") == 0)
		return requests();
	if (strcmp(verb, "output") == 0 && argc > 2)
		return print_output(argv + 2);
	if (strcmp(verb, "pump") == 0 && argc > 2)
		return pump_output(argv + 2);
	if (strcmp(verb, "copy") == 0 && argc == 4)
		return !copy_tree(argv[2], argv[3]);
	return 2;
}
