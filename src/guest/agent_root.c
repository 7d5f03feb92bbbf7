/* A root for commands: mounts that programs expect, and nothing else of the guest. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent_keeper.h"

static const struct {
	const char *path;
	mode_t mode;
	unsigned major, minor;
} DEVICES[] = {
	{"/dev/null", 0666, 1, 3},   {"/dev/zero", 0666, 1, 5},    {"/dev/full", 0666, 1, 7},
	{"/dev/random", 0666, 1, 8}, {"/dev/urandom", 0666, 1, 9}, {"/dev/tty", 0666, 5, 0},
};

static const char *const LINKS[][2] = {
	{"/proc/self/fd", "/dev/fd"},	    {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"},
};

/* As containers' runtimes have them: by these, root in a container would become root of the guest. */
static const char *const READ_ONLY[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
static const char *const HIDDEN_FILES[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"};
static const char *const HIDDEN_FOLDERS[] = {"/proc/acpi", "/proc/scsi", "/sys/firmware"};

#define COUNT(table) (sizeof(table) / sizeof(*(table)))
#define SAFE (MS_NOSUID | MS_NOEXEC | MS_NODEV)

static const char *make_devices(void)
{
	mkdir("/dev", 0755);
	if (mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755,size=64k"))
		return "mount /dev";
	for (size_t i = 0; i < COUNT(DEVICES); i++)
		if (mknod(DEVICES[i].path, S_IFCHR | DEVICES[i].mode, makedev(DEVICES[i].major, DEVICES[i].minor)))
			return DEVICES[i].path;
	for (size_t i = 0; i < COUNT(LINKS); i++)
		if (symlink(LINKS[i][0], LINKS[i][1]))
			return LINKS[i][1];
	mkdir("/dev/pts", 0755);
	mkdir("/dev/shm", 01777);
	if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"))
		return "mount /dev/pts";
	return mount("shm", "/dev/shm", "tmpfs", SAFE, "mode=1777") ? "mount /dev/shm" : NULL;
}

static void protect(void)
{
	for (size_t i = 0; i < COUNT(READ_ONLY); i++)
		if (!mount(READ_ONLY[i], READ_ONLY[i], NULL, MS_BIND | MS_REC, NULL))
			mount(NULL, READ_ONLY[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | SAFE, NULL);
	for (size_t i = 0; i < COUNT(HIDDEN_FILES); i++)
		mount("/dev/null", HIDDEN_FILES[i], NULL, MS_BIND, NULL);
	for (size_t i = 0; i < COUNT(HIDDEN_FOLDERS); i++)
		mount("tmpfs", HIDDEN_FOLDERS[i], "tmpfs", SAFE | MS_RDONLY, NULL);
}

static const char *change_root(const char *root)
{
	if (mount(root, root, NULL, MS_BIND | MS_REC, NULL))
		return "open the root";
	/* The guest's first root cannot be unmounted; moved over it, this one is what '..' leads to from everywhere. */
	if (chdir(root) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		return "change the root";
	return NULL;
}

const char *enter_root(const char *root, bool privileged)
{
	const char *fault = NULL;

	umask(0);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return "make mounts private";
	if (*root && (fault = change_root(root)))
		return fault;
	if (*root) {
		mkdir("/proc", 0755);
		mkdir("/sys", 0755);
	}
	if (mount("proc", "/proc", "proc", SAFE, NULL))
		return "mount /proc";
	if (*root) {
		mount("sysfs", "/sys", "sysfs", privileged ? SAFE : SAFE | MS_RDONLY, NULL);
		fault = make_devices();
	}
	if (!fault && !privileged)
		protect();
	umask(022);
	return fault;
}
