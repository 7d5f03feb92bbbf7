#include "mounts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

struct file_system {
	const char *type;
	const char *target;
	unsigned long flags;
	const char *data;
};

static const struct file_system systems[] = {
	{ "proc", "/proc", MS_NOEXEC | MS_NOSUID | MS_NODEV, NULL },
	{ "devtmpfs", "/dev", MS_NOSUID, NULL },
	{ "sysfs", "/sys", MS_NOEXEC | MS_NOSUID | MS_NODEV, NULL },
	{ "cgroup2", "/sys/fs/cgroup", MS_NOEXEC | MS_NOSUID | MS_NODEV, NULL },
	{ "tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755" },
	{ "tmpfs", STATE, MS_NOSUID | MS_NODEV, "mode=711" },
	{ "devpts", "/dev/pts", MS_NOEXEC | MS_NOSUID, "ptmxmode=0666" },
	{ "tmpfs", "/dev/shm", MS_NOEXEC | MS_NOSUID | MS_NODEV, NULL },
};

static const char *const folders[] = { "/run/bootmatrix", "/run/resolvconf", "/run/lock", "/var/log", STATE "/run" };

void move_root(void)
{
	mkdir(STATE, 0755);
	mkdir("/run", 0755);
	if (mount("/", "/run", NULL, MS_BIND, NULL) != 0 || chdir("/run") != 0 ||
	    mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
		perror("bootmatrix: cannot move the root");
}

void mount_root_systems(bool is_contained)
{
	for (size_t i = 0; i < sizeof systems / sizeof *systems; i++) {
		const struct file_system *one = &systems[i];

		if (is_contained && strcmp(one->type, "devtmpfs") == 0)
			continue;
		if (make_folders(one->target) && mount(one->type, one->target, one->type, one->flags, one->data) == 0)
			continue;
		if (!is_contained || errno != EBUSY) /* the engine has mounted the same */
			fprintf(stderr, "bootmatrix: cannot mount %s: %s\n", one->target, strerror(errno));
	}
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
		make_folders(folders[i]);
	if (symlink("/proc/self/fd", "/dev/fd") != 0 && errno != EEXIST) /* TOMOYO of Linux 5.10 resolves execveat(2) of runtimes there */
		perror("bootmatrix: cannot make /dev/fd");
}

struct option {
	const char *name;
	unsigned long set;
	unsigned long clear;
};

/* Options of mount(8); all others are the file system's own. */
static const struct option options_known[] = {
	{ "defaults", 0, 0 },
	{ "ro", MS_RDONLY, 0 },
	{ "rw", 0, MS_RDONLY },
	{ "suid", 0, MS_NOSUID },
	{ "nosuid", MS_NOSUID, 0 },
	{ "dev", 0, MS_NODEV },
	{ "nodev", MS_NODEV, 0 },
	{ "exec", 0, MS_NOEXEC },
	{ "noexec", MS_NOEXEC, 0 },
	{ "sync", MS_SYNCHRONOUS, 0 },
	{ "async", 0, MS_SYNCHRONOUS },
	{ "dirsync", MS_DIRSYNC, 0 },
	{ "mand", MS_MANDLOCK, 0 },
	{ "nomand", 0, MS_MANDLOCK },
	{ "atime", 0, MS_NOATIME },
	{ "noatime", MS_NOATIME, 0 },
	{ "diratime", 0, MS_NODIRATIME },
	{ "nodiratime", MS_NODIRATIME, 0 },
	{ "relatime", MS_RELATIME, 0 },
	{ "norelatime", 0, MS_RELATIME },
	{ "strictatime", MS_STRICTATIME, 0 },
	{ "bind", MS_BIND, 0 },
	{ "rbind", MS_BIND | MS_REC, 0 },
	{ "private", MS_PRIVATE, 0 },
	{ "rprivate", MS_PRIVATE | MS_REC, 0 },
	{ "shared", MS_SHARED, 0 },
	{ "rshared", MS_SHARED | MS_REC, 0 },
	{ "slave", MS_SLAVE, 0 },
	{ "rslave", MS_SLAVE | MS_REC, 0 },
	{ "unbindable", MS_UNBINDABLE, 0 },
	{ "runbindable", MS_UNBINDABLE | MS_REC, 0 },
};

enum { PROPAGATION = MS_PRIVATE | MS_SHARED | MS_SLAVE | MS_UNBINDABLE };

static const struct option *known_option(const char *name)
{
	for (size_t i = 0; i < sizeof options_known / sizeof *options_known; i++)
		if (strcmp(name, options_known[i].name) == 0)
			return &options_known[i];
	return NULL;
}

/* Split options into flags, changes of propagation, and data of the file system. Return whether the data has room. */
static bool read_options(const char *options, unsigned long *flags, unsigned long *spread, char *data, size_t size)
{
	char words[4096], *rest = words, *word;
	size_t length = 0;

	*flags = *spread = 0;
	*data = '\0';
	if (strcmp(options, "-") == 0)
		return true;
	if ((size_t)snprintf(words, sizeof words, "%s", options) >= sizeof words)
		return false;
	while ((word = next_word(&rest, ',')) != NULL) {
		const struct option *option = known_option(word);

		if (option && option->set & PROPAGATION)
			*spread |= option->set;
		else if (option)
			*flags = (*flags & ~option->clear) | option->set;
		else if (*word)
			length += (size_t)snprintf(data + length, size - length, "%s%s", length ? "," : "", word);
		if (length >= size)
			return false;
	}
	return true;
}

bool is_bind(const char *type, const char *options)
{
	char data[4096];
	unsigned long flags, spread;

	read_options(options, &flags, &spread, data, sizeof data);
	return strcmp(type, "bind") == 0 || flags & MS_BIND;
}

bool mount_at(const char *type, const char *source, const char *target, const char *options)
{
	char data[4096];
	unsigned long flags, spread;

	if (!read_options(options, &flags, &spread, data, sizeof data)) {
		errno = E2BIG;
		return false;
	}
	if (strcmp(type, "bind") == 0)
		flags |= MS_BIND;
	if (mount(source, target, strcmp(type, "-") == 0 ? NULL : type, flags, *data ? data : NULL) != 0)
		return false;
	if (flags & MS_BIND && flags & ~(unsigned long)(MS_BIND | MS_REC) &&
	    mount(NULL, target, NULL, (flags & ~(unsigned long)MS_REC) | MS_REMOUNT, NULL) != 0)
		return false;
	return !spread || mount(NULL, target, NULL, spread, NULL) == 0;
}

bool bind_at(const char *source, const char *target, bool is_whole)
{
	return mount(source, target, NULL, MS_BIND | (is_whole ? MS_REC : 0), NULL) == 0;
}
