#include "roots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "mounts.h"
#include "report.h"
#include "settings.h"
#include "util.h"

#define LIST "/etc/bootmatrix/roots"
#define FOLDER STATE "/roots"
#define SCRATCH_SERIAL "bootmatrix-scratch"

struct root {
	const char *serial, *path;
	bool is_written; /* the runtime makes mount points in it */
};

/* Cut the next line off the list; return whether there is a whole one. */
static bool next_root(char **rest, struct root *root)
{
	char *line = next_word(rest, '\n'), *writes;

	if (line == NULL || *line == '\0')
		return false;
	root->serial = next_word(&line, '\t');
	root->path = next_word(&line, '\t');
	writes = next_word(&line, '\t');
	root->is_written = writes && strcmp(writes, "rw") == 0;
	return writes != NULL;
}

/* Mount an overlay with its upper layer in a new folder. */
static bool mount_overlay(const char *lower, const char *folder, const char *target)
{
	char *upper = format("%s/upper", folder), *work = format("%s/work", folder);
	char *options = format("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work);
	bool is_mounted = make_folders(upper) && make_folders(work) && mount_at("overlay", "overlay", target, options);

	free(upper);
	free(work);
	free(options);
	return is_mounted;
}

static bool mount_root(const struct root *root, const char *disk)
{
	char *folder, *lower;
	bool is_mounted;

	if (!root->is_written)
		return mount(disk, root->path, "squashfs", MS_RDONLY, NULL) == 0;
	folder = format(FOLDER "/%s", root->serial);
	lower = format("%s/lower", folder);
	is_mounted = make_folders(lower) && mount(disk, lower, "squashfs", MS_RDONLY, NULL) == 0 &&
	             mount_overlay(lower, folder, root->path);
	free(folder);
	free(lower);
	return is_mounted;
}

static bool find_and_mount(const struct root *root)
{
	char disk[320];

	if (!find_disk(root->serial, disk, sizeof disk)) {
		say_error("no disk for %s", root->path);
		return false;
	}
	if (mount_root(root, disk))
		return true;
	say_error("cannot mount %s from its disk: %s", root->path, strerror(errno));
	return false;
}

bool mount_roots(void)
{
	char *text = read_all(LIST), *rest = text;
	struct root root;
	bool is_done = true;

	if (text && (!make_folders(FOLDER) || mount("tmp", FOLDER, "tmpfs", 0, "mode=755") != 0)) {
		say_error("cannot mount roots from disks: %s", strerror(errno));
		is_done = false;
	}
	while (is_done && next_root(&rest, &root))
		is_done = find_and_mount(&root);
	free(text);
	return is_done;
}

bool mount_scratch(void)
{
	char disk[320];

	if (!settings.has_scratch)
		return true;
	if (!find_disk(SCRATCH_SERIAL, disk, sizeof disk))
		say_error("no scratch disk");
	else if (!make_folders(SCRATCH) || mount(disk, SCRATCH, "ext4", MS_NOATIME, "noinit_itable") != 0)
		say_error("cannot mount the scratch disk: %s", strerror(errno));
	else
		return true;
	return false;
}

bool overlay_roots(const char *view, const char *folder)
{
	char *text = read_all(LIST), *rest = text, *target, *upper;
	struct root root;
	bool is_done = true;

	while (is_done && next_root(&rest, &root)) {
		target = format("%s%s", view, root.path);
		upper = format("%s/%s", folder, root.serial);
		is_done = mount_overlay(root.path, upper, target);
		free(target);
		free(upper);
	}
	free(text);
	return is_done;
}
