#include "bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "mounts.h"
#include "report.h"
#include "roots.h"
#include "settings.h"
#include "util.h"
#include "walk.h"
#include "world.h"

enum { WORDS = 5, FILE_BYTES = 512 << 10, CONSOLE_FILE_BYTES = 16 << 10 };

/* Do something with each step of a bundle; stop at the first failure. */
static bool each_step(const char *folder, bool (*perform)(const char *folder, char *words[WORDS]))
{
	char *path = format("/etc/bootmatrix/containers/%s", folder), *text = read_all(path), *rest = text, *line;
	bool is_done = true;

	while (is_done && (line = next_word(&rest, '\n')) != NULL) {
		char *words[WORDS] = { NULL };

		if (*line == '\0')
			continue;
		for (int i = 0; i < WORDS; i++) {
			words[i] = next_word(&line, '\t');
			if (words[i] == NULL)
				words[i] = line = (char *)"";
		}
		is_done = perform(folder, words);
	}
	free(path);
	free(text);
	return is_done;
}

/* Open a path as the container would; make a folder if it is missing. */
static int open_inside(const char *folder, const char *path, bool is_made)
{
	char *root = format("/containers/%s/rootfs", folder);
	int above = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), file = -1;

	if (above >= 0) {
		file = walk(above, path, is_made);
		close(above);
	}
	free(root);
	return file;
}

static bool make_inside(const char *folder, const char *path)
{
	char *root = format("/containers/%s/rootfs", folder);
	size_t size = strlen(root);
	int made = open_inside(folder, strncmp(path, root, size) == 0 ? path + size : path, true);

	free(root);
	if (made >= 0)
		close(made);
	return made >= 0;
}

/* A mount in a container's root; the source of a bind is in the containers' view. */
static bool mount_inside(const char *folder, char *words[WORDS])
{
	const char *type = words[1], *source = words[2], *options = words[4];
	int target = open_inside(folder, words[3], true);
	char at[64];
	bool is_mounted = target >= 0;

	snprintf(at, sizeof at, "/proc/self/fd/%d", target);
	if (is_mounted && is_bind(type, options))
		is_mounted = bind_from_view(source, target, options);
	else if (is_mounted)
		is_mounted = mount_at(type, source, at, options);
	if (target >= 0)
		close(target);
	return is_mounted;
}

/* What a container writes: in memory, or on the disk for it. */
static bool mount_writes(const char *folder, const char *target)
{
	char *at = format(SCRATCH "/%s", folder);
	bool is_mounted = make_folders(at) && bind_at(at, target, false);

	free(at);
	return is_mounted;
}

static bool is_for_writes(const char *folder, const char *target)
{
	char *path = format("/containers/%s/tmp", folder);
	bool is_same = strcmp(path, target) == 0;

	free(path);
	return is_same;
}

static bool perform(const char *folder, char *words[WORDS])
{
	const char *step = words[0];

	if (strcmp(step, "mkdir") == 0)
		return make_folders(words[1]);
	if (strcmp(step, "mount") == 0 && settings.has_scratch && is_for_writes(folder, words[3]))
		return mount_writes(folder, words[3]);
	if (strcmp(step, "mount") == 0)
		return mount_at(words[1], words[2], words[3], words[4]);
	if (strcmp(step, "control") == 0)
		return open_control(folder);
	if (strcmp(step, "world-mkdir") == 0)
		return make_in_view(words[1]);
	if (strcmp(step, "world-mount") == 0)
		return mount_in_view(words[1], words[2], words[3], words[4]);
	if (strcmp(step, "inside-mkdir") == 0)
		return make_inside(folder, words[1]);
	if (strcmp(step, "inside-mount") == 0)
		return mount_inside(folder, words);
	return true;
}

static bool set_up_step(const char *folder, char *words[WORDS])
{
	if (perform(folder, words))
		return true;
	say_error("cannot set up container %s: %s %s %s %s %s: %s", folder, words[0], words[1], words[2], words[3],
	          words[4], strerror(errno));
	return false;
}

bool set_up(const char *folder)
{
	return each_step(folder, set_up_step);
}

static bool put_step(const char *folder, char *words[WORDS])
{
	(void)folder;
	if (strcmp(words[0], "bind") == 0)
		put_bind(words[1], words[2], strcmp(words[3], "all") == 0);
	return true;
}

void put_binds(const char *folder)
{
	if (has_view())
		each_step(folder, put_step);
}

/* Read the beginning of a regular file of a container. Return its length, -1 if there is no such file. */
static ssize_t read_inside(const char *folder, const char *path, char *data, size_t most, int64_t *size, bool *is_folder)
{
	int place = open_inside(folder, path, false), file = -1;
	struct stat status = {0};
	char name[64];
	ssize_t length = 0, more = -1;

	if (place >= 0 && fstat(place, &status) == 0 && S_ISREG(status.st_mode)) {
		snprintf(name, sizeof name, "/proc/self/fd/%d", place);
		file = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		*size = status.st_size;
	}
	*is_folder = S_ISDIR(status.st_mode);
	while (file >= 0 && (size_t)length < most && (more = read(file, data + length, most - (size_t)length)) > 0)
		length += more;
	if (place >= 0)
		close(place);
	if (file >= 0)
		close(file);
	return file < 0 || more < 0 ? -1 : length;
}

static const char *file_owner;
static bool has_more;

/* What is not sent whole is left to the host, which may fetch it by the agent. */
static void say_more(const char *folder, const char *name)
{
	bool is_fetching = strcmp(settings.agent, "collect") == 0 || strcmp(settings.agent, "hold") == 0;

	if (!is_fetching || settings.is_console)
		return;
	has_more = true;
	say("more %s %s %s", file_owner, name, folder);
}

bool has_more_files(void)
{
	return has_more;
}

static bool say_file(const char *folder, char *words[WORDS])
{
	size_t most = settings.is_console ? CONSOLE_FILE_BYTES : FILE_BYTES;
	char *data, *name, *text, *contents;
	int64_t size = 0;
	ssize_t length;
	bool is_tree;

	if (strcmp(words[0], "result") != 0)
		return true;
	data = allocate(NULL, most);
	length = read_inside(folder, words[1], data, most, &size, &is_tree);
	is_tree = is_tree || (length < 0 && strpbrk(words[1], "*?["));
	name = encoded(words[1], strlen(words[1]));
	contents = length < 0 ? NULL : packed(data, (size_t)length);
	if (contents)
		text = format("file %s %s %lld %s", file_owner, name, (long long)size, contents);
	else
		text = format("file %s %s %s", file_owner, name, is_tree ? "tree" : "missing");
	say_text(text);
	if (is_tree || (contents && size > length))
		say_more(folder, name);
	free(text);
	free(contents);
	free(name);
	free(data);
	return true;
}

void say_files(const char *folder, const char *name)
{
	file_owner = name;
	each_step(folder, say_file);
}

static bool set_up_volume(const char *name)
{
	char *at = format("/containers/volumes/%s", name), *tmp = format("%s/tmp", at), *merged = format("%s/merged", at);
	char *upper = format("%s/upper", tmp), *work = format("%s/work", tmp);
	char *options = format("lowerdir=%s/lower,upperdir=%s,workdir=%s", at, upper, work);
	bool is_mounted = mount_at("tmpfs", "tmp", tmp, "-") && mkdir(upper, 0755) == 0 && mkdir(work, 0755) == 0 &&
	                  mount_at("overlay", "overlay", merged, options);

	if (!is_mounted)
		say_error("cannot set up volume %s: %s", name, strerror(errno));
	free(at);
	free(tmp);
	free(merged);
	free(upper);
	free(work);
	free(options);
	return is_mounted;
}

bool set_up_volumes(void)
{
	char *text = read_all("/etc/bootmatrix/volumes"), *rest = text, *name;
	bool is_done = true;

	while (is_done && (name = next_word(&rest, '\n')) != NULL)
		is_done = *name == '\0' || set_up_volume(name);
	free(text);
	return is_done;
}
