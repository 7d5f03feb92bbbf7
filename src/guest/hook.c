#include "hook.h"

#include "inroot.h"
#include "netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* The containers' view, where a link leads nowhere else. Only where all may do anything is there none. */
#define VIEW "/bootmatrix/world"

enum { STATE_BYTES = 1 << 20, WORDS = 5 };

static pid_t read_state(void)
{
	char *text = malloc(STATE_BYTES); /* no static memory: PID 1, the same program, would lock it */
	size_t size = 0;
	ssize_t count;
	pid_t pid;

	if (text == NULL)
		return -1;
	while (size < STATE_BYTES && (count = read(STDIN_FILENO, text + size, STATE_BYTES - size)) != 0) {
		if (count > 0)
			size += (size_t)count;
		else if (errno != EINTR)
			break;
	}
	pid = size < STATE_BYTES ? oci_state_pid(text, size) : -1;
	free(text);
	return pid;
}

/* Open a namespace of a process. */
static int open_namespace(pid_t pid, const char *name)
{
	char path[64];

	if (strlen(name) > 16 || strchr(name, '/')) {
		errno = EINVAL;
		return -1;
	}
	snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Add an interface in the container's network namespace. */
static int add_inside(pid_t pid, const char *name, const char *kind)
{
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int other = open_namespace(pid, "net");
	int result = -1;

	if (own >= 0 && other >= 0 && setns(other, CLONE_NEWNET) == 0) {
		result = link_add(name, kind);
		if (setns(own, CLONE_NEWNET) != 0)
			result = -1;
	}
	if (own >= 0)
		close(own);
	if (other >= 0)
		close(other);
	return result;
}

static int add(pid_t pid, char **words)
{
	const char *name = words[1], *kind = words[2], *peer = words[3];
	int is_new = strcmp(words[4], "new") == 0;
	int result;

	if (strcmp(kind, "veth") == 0)
		result = link_add_veth(name, peer);
	else
		result = is_new ? add_inside(pid, name, kind) : link_add(name, kind);
	return result == 0 && !is_new ? link_move(name, pid) : result;
}

static int bind_at(int source, int target)
{
	char from[32], to[32];

	snprintf(from, sizeof from, "/proc/self/fd/%d", source);
	snprintf(to, sizeof to, "/proc/self/fd/%d", target);
	return mount(from, to, NULL, MS_BIND, NULL);
}

static int bind_namespace(pid_t pid, const char *name, const char *path)
{
	int root = open(access(VIEW, F_OK) == 0 ? VIEW : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int source = open_namespace(pid, name);
	int target = root >= 0 && source >= 0 ? make_file_in_root(root, path) : -1;
	int result = target >= 0 ? bind_at(source, target) : -1;
	int error = errno;

	if (root >= 0)
		close(root);
	if (source >= 0)
		close(source);
	if (target >= 0)
		close(target);
	errno = error;
	return result;
}

/* Split a line at its tabs. Return the number of words. */
static int split(char *line, char *words[WORDS])
{
	int count = 0;

	for (char *word; count < WORDS && (word = strsep(&line, "\t"));)
		words[count++] = word;
	return line ? WORDS + 1 : count;
}

static int perform(pid_t pid, char *line)
{
	char *words[WORDS];
	int count = split(line, words);

	if (count == 5 && strcmp(words[0], "add") == 0)
		return add(pid, words);
	if (count == 2 && strcmp(words[0], "move") == 0)
		return link_move(words[1], pid);
	if (count == 3 && strcmp(words[0], "bind") == 0)
		return bind_namespace(pid, words[1], words[2]);
	errno = EINVAL;
	return -1;
}

static int perform_lines(pid_t pid, FILE *file)
{
	char line[2 * PATH_MAX], whole[2 * PATH_MAX];

	while (fgets(line, sizeof line, file)) {
		line[strcspn(line, "\n")] = '\0';
		memcpy(whole, line, sizeof whole);
		if (perform(pid, line) == 0)
			continue;
		for (char *tab; (tab = strchr(whole, '\t'));)
			*tab = ' ';
		fprintf(stderr, "bootmatrix: cannot %s: %s\n", whole, strerror(errno));
		return 1;
	}
	return ferror(file) ? 1 : 0;
}

int hook_main(int argc, char **argv)
{
	FILE *file = argc == 2 ? fopen(argv[1], "re") : NULL;
	pid_t pid = read_state();
	int status;

	if (!file || pid < 0) {
		fprintf(stderr, "bootmatrix: hook: %s\n", file ? "the container's state has no process id" : "cannot read its lines");
		return 1;
	}
	status = perform_lines(pid, file);
	fclose(file);
	return status;
}
