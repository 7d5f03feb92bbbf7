#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "console.h"
#include "copy_tree.h"
#include "mounts.h"
#include "report.h"
#include "roots.h"
#include "util.h"
#include "walk.h"

#define VIEW STATE "/world"
#define OVERLAY STATE "/overlay"
#define BINDS STATE "/binds"
#define STAGE STATE "/stage" /* of a mount that gets flags before it is moved to its place */
#define PIDS STATE "/pids"
#define PROC STATE "/proc" /* of the shared process ids */

static int view = -1;
static bool has_pids;

bool has_view(void)
{
	return view >= 0;
}

int open_in_view(const char *path)
{
	int root = view >= 0 ? view : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int file = walk(root, path, false);

	if (root != view)
		close(root);
	return file;
}

bool make_in_view(const char *path)
{
	int folder = walk(view, path, true);

	if (folder >= 0)
		close(folder);
	return folder >= 0;
}

static bool make_place(int file, const char *place)
{
	struct stat status;

	if (fstat(file, &status) != 0)
		return false;
	return S_ISDIR(status.st_mode) ? mkdir(place, 0755) == 0 : write_text(place, "");
}

static void take_away(const char *place)
{
	umount2(place, MNT_DETACH);
	if (rmdir(place) != 0)
		unlink(place);
}

bool bind_from_view(const char *source, int target, const char *options)
{
	int from = open_in_view(source);
	char by[64], at[64];
	bool is_mounted;

	if (from < 0)
		return false;
	snprintf(by, sizeof by, "/proc/self/fd/%d", from);
	snprintf(at, sizeof at, "/proc/self/fd/%d", target);
	is_mounted = make_place(target, STAGE) && mount_at("bind", by, STAGE, options) &&
	             mount(STAGE, at, NULL, MS_MOVE, NULL) == 0;
	take_away(STAGE);
	close(from);
	return is_mounted;
}

/* Mount what is not a bind by a child whose root is the view: options may have paths too. */
static bool mount_by_child(const char *type, const char *source, const char *target, const char *options)
{
	pid_t child = fork();
	int status = 1;

	if (child == 0)
		_exit(fchdir(view) == 0 && chroot(".") == 0 && mount_at(type, source, target, options) ? 0 : errno);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
	return errno == 0;
}

bool mount_in_view(const char *type, const char *source, const char *target, const char *options)
{
	int place = open_in_view(target);
	char at[64];
	bool is_mounted = place >= 0;

	snprintf(at, sizeof at, "/proc/self/fd/%d", place);
	if (is_mounted && is_bind(type, options))
		is_mounted = bind_from_view(source, place, options);
	else if (is_mounted)
		is_mounted = mount_by_child(type, source, at, options);
	if (place >= 0)
		close(place);
	return is_mounted;
}

/* First process of the namespace: it cannot be killed from inside, and lets the kernel reap orphans. */
static _Noreturn void hold_pids(int ready)
{
	sigset_t none;

	forget_nonce();
	signal(SIGCHLD, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	write_text("/proc/self/oom_score_adj", "-1000");
	if (mkdir(PROC, 0755) != 0 || mount("proc", PROC, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
		_exit(1);
	if (write(ready, "", 1) != 1)
		_exit(1);
	for (int file = 0; file < 1024; file++)
		close(file);
	for (;;)
		pause();
}

/* Let the next child be the first process of a new namespace. */
static pid_t fork_holder(int ready)
{
	int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	pid_t child = own >= 0 && unshare(CLONE_NEWPID) == 0 ? fork() : -1;

	if (child == 0)
		hold_pids(ready);
	if (own >= 0) {
		if (setns(own, CLONE_NEWPID) != 0)
			child = -1;
		close(own);
	}
	return child;
}

bool share_pids(void)
{
	char path[64], byte;
	int ends[2];
	pid_t holder;

	if (access("/etc/bootmatrix/pids", F_OK) != 0)
		return true;
	if (pipe2(ends, O_CLOEXEC) == 0) {
		holder = fork_holder(ends[1]);
		close(ends[1]);
		snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)holder);
		has_pids = holder > 0 && read(ends[0], &byte, 1) == 1 && write_text(PIDS, "") && bind_at(path, PIDS, false);
		close(ends[0]);
	}
	if (!has_pids)
		say_error("cannot make a namespace of process ids: %s", strerror(errno));
	return has_pids;
}

/* Init's own /dev has only the nodes that it needs, since a container that binds /dev may replace others. */
static bool replace_devices(void)
{
	static const char *const names[] = { "null", "zero", "full", "random", "urandom", "tty", "console", "kmsg", "fd" };
	char from[64], to[64];

	if (mount("dev", "/dev", "tmpfs", MS_NOSUID, "mode=755") != 0)
		return false;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(from, sizeof from, VIEW "/dev/%s", names[i]);
		snprintf(to, sizeof to, "/dev/%s", names[i]);
		if (!copy_tree(from, to) && errno != ENOENT)
			return false;
	}
	return true;
}

/* A forked guest has its bundles on a separate disk, and roots may be on disks of their own. */
static bool overlay_containers(void)
{
	if (!overlay_roots(VIEW, OVERLAY))
		return false;
	if (access("/containers/.settings", F_OK) != 0)
		return true;
	return mkdir(OVERLAY "/upper2", 0755) == 0 && mkdir(OVERLAY "/work2", 0755) == 0 &&
	       mount_at("overlay", "overlay", VIEW "/containers",
	                "lowerdir=/containers,upperdir=" OVERLAY "/upper2,workdir=" OVERLAY "/work2");
}

static bool mount_view(void)
{
	static const char *const shared[] = { "dev", "proc", "sys", "run" };
	char from[64], to[64];

	if (!make_folders(VIEW) || !make_folders(OVERLAY "/upper") || !make_folders(OVERLAY "/work") ||
	    !make_folders(BINDS) ||
	    !mount_at("overlay", "world", VIEW, "lowerdir=/,upperdir=" OVERLAY "/upper,workdir=" OVERLAY "/work") ||
	    mount("var", VIEW "/var", "tmpfs", 0, "mode=755") != 0)
		return false;
	for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
		snprintf(from, sizeof from, "/%s", shared[i]);
		snprintf(to, sizeof to, VIEW "/%s", shared[i]);
		if (!bind_at(from, to, true))
			return false;
	}
	return replace_devices() && copy_tree("/var", VIEW "/var") && bind_at(VIEW "/var", "/var", false) &&
	       overlay_containers() && has_pids;
}

bool make_view(void)
{
	if (access("/etc/bootmatrix/world", F_OK) != 0)
		return true;
	if (mount_view())
		view = open(VIEW, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (view < 0)
		say_error("cannot make the containers' view of the root: %s", strerror(errno));
	return view >= 0;
}

/* Whether the build has closed what is to be closed of a mount of /proc or /sys, at `below` in a bind; not where a link
 * leads there that a container left, or what was mounted elsewhere. */
static bool is_closed(const char *source, const char *below)
{
	if (strcmp(source, "/") == 0)
		return strcmp(below, "/proc") == 0 || strcmp(below, "/sys") == 0 || strcmp(below, "/sys/fs/cgroup") == 0;
	if (strcmp(source, "/sys") == 0 && strcmp(below, "/fs/cgroup") == 0)
		return true;
	if (strcmp(source, "/sys/fs") == 0 && strcmp(below, "/cgroup") == 0)
		return true;
	return *below == '\0' && (strcmp(source, "/proc") == 0 || strncmp(source, "/proc/", 6) == 0 ||
	                          strcmp(source, "/sys") == 0 || strncmp(source, "/sys/", 5) == 0);
}

/* Whether a line of /proc/self/mountinfo (proc(5)) is of a mount at or below a place; then set the rest of its path, and
 * its type. */
static bool is_mount_below(char *line, const char *place, const char **below, const char **type)
{
	char *rest = line, *target = NULL, *dash = strstr(line, " - ");
	size_t size = strlen(place);

	if (dash == NULL)
		return false;
	*dash = '\0';
	dash += 3;
	*type = next_word(&dash, ' ');
	for (int i = 0; i < 5; i++)
		target = next_word(&rest, ' ');
	if (target == NULL || strncmp(target, place, size) != 0 || (target[size] != '\0' && target[size] != '/'))
		return false;
	*below = target + size;
	return true;
}

/* Whether each kernel file system in a bind is one that the build has closed for its container. */
static bool are_closed(const char *source, const char *place)
{
	char *text = read_all("/proc/self/mountinfo"), *rest = text, *line;
	const char *below, *type;
	bool result = text != NULL;

	while (result && (line = next_word(&rest, '\n')) != NULL)
		if (is_mount_below(line, place, &below, &type) &&
		    (strcmp(type, "proc") == 0 || strcmp(type, "sysfs") == 0 || strcmp(type, "cgroup2") == 0))
			result = is_closed(source, below);
	free(text);
	return result;
}

/* Path of an open file, as seen from init's root. */
static bool path_of(int file, char *path, size_t size)
{
	char link[64];
	ssize_t length;

	snprintf(link, sizeof link, "/proc/self/fd/%d", file);
	length = readlink(link, path, size - 1);
	if (length < 0)
		return false;
	path[length] = '\0';
	return true;
}

/* For /proc it is that of the shared process ids, unless the container may see all: through another process it would
 * reach that one's root and memory. */
static bool bind_source(int file, const char *place, bool sees_all)
{
	char path[4096], from[64], proc[640];

	if (!path_of(file, path, sizeof path))
		return false;
	if (!sees_all && strcmp(path, VIEW "/proc") == 0)
		return bind_at(PROC, place, true);
	snprintf(from, sizeof from, "/proc/self/fd/%d", file);
	if (!bind_at(from, place, true))
		return false;
	snprintf(proc, sizeof proc, "%s/proc", place);
	return sees_all || strcmp(path, VIEW) != 0 || bind_at(PROC, proc, false);
}

void put_bind(const char *name, const char *source, bool sees_all)
{
	char place[512];
	struct stat status;
	int file;

	snprintf(place, sizeof place, BINDS "/%s", name);
	if (lstat(place, &status) == 0)
		return;
	file = open_in_view(source);
	if (file < 0) {
		console_print("cannot bind %s: not found", source);
		return;
	}
	if (!make_place(file, place) || !bind_source(file, place, sees_all)) {
		console_print("cannot bind %s: %s", source, strerror(errno));
		take_away(place);
	} else if (!are_closed(source, place)) {
		say_error("the bind %s leads out of the containers' view", source);
		take_away(place);
	}
	close(file);
}
