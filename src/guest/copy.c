#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "console.h"
#include "copy_tree.h"
#include "disk.h"
#include "leave.h"
#include "mounts.h"
#include "netlink.h"
#include "runs.h"
#include "util.h"

#define CONTAINERS "/containers"

enum { HELLO_BYTES = 512 };

static bool set_clock(const char *seconds)
{
	struct timespec time = { 0 };
	int64_t number;

	if (!parse_number(seconds, &number))
		return false;
	time.tv_sec = (time_t)number;
	return clock_settime(CLOCK_REALTIME, &time) == 0;
}

static bool set_address(const char *text)
{
	uint8_t address[6];

	if (access("/sys/class/net/eth0", F_OK) != 0)
		return true;
	return hardware_parse(text, address) == 0 && link_set_hardware("eth0", address) == 0;
}

/* The kernel caches nothing of a disk that is not open: nothing of the template's disk is left. */
static bool mount_disk(const char *disk)
{
	int file;

	if (mount(disk, CONTAINERS, "squashfs", MS_RDONLY, NULL) == 0)
		return true;
	file = open(disk, O_RDONLY | O_CLOEXEC);
	if (file >= 0) {
		ioctl(file, BLKFLSBUF, 0);
		close(file);
	}
	return mount(disk, CONTAINERS, "squashfs", MS_RDONLY, NULL) == 0;
}

static bool copy_root(void)
{
	return access(CONTAINERS "/.root", F_OK) != 0 || copy_tree(CONTAINERS "/.root", "/");
}

/* Only if needed: a container's own overlay is the second, and the kernel allows no third. */
static bool make_writable(void)
{
	static const char options[] = "lowerdir=" CONTAINERS ",upperdir=" STATE "/containers/upper,workdir=" STATE
	                              "/containers/work";

	if (access(CONTAINERS "/.writes", F_OK) != 0)
		return true;
	return mkdir(STATE "/containers", 0755) == 0 &&
	       mount("tmp", STATE "/containers", "tmpfs", 0, "mode=755") == 0 &&
	       mkdir(STATE "/containers/upper", 0755) == 0 && mkdir(STATE "/containers/work", 0755) == 0 &&
	       mount("overlay", CONTAINERS, "overlay", 0, options) == 0;
}

/* Make a copy unique: random numbers, time, hardware address, containers. */
static bool make_unique(char *line, const char *disk)
{
	char *rest = line, *seconds = next_word(&rest, ' '), *address = next_word(&rest, ' '), *seed = rest;

	rearm_timer();
	if (seed == NULL || reseed(seed) != 0 || !set_clock(seconds) || !set_address(address)) {
		console_print("cannot become a copy: %s", strerror(errno));
		return false;
	}
	if (!mount_disk(disk) || !bind_at(CONTAINERS "/.settings", "/etc/bootmatrix", false) || !copy_root() ||
	    !make_writable()) {
		console_print("cannot read the disk: %s", strerror(errno));
		return false;
	}
	return true;
}

bool become_copy(int channel)
{
	static const char hello[] = "bootmatrix template 1\n";
	char disk[320], line[HELLO_BYTES], byte;

	start_waiting_runtimes();
	if (getrandom(&byte, 1, 0) != 1) /* waits for the random number generator, which cannot be reseeded before */
		return false;
	if (!find_disk("bootmatrix", disk, sizeof disk)) {
		console_print("no disk found");
		return false;
	}
	console_drain();
	if (!write_all(channel, hello, sizeof hello - 1) || read_channel_line(channel, line, sizeof line, NEVER) < 0)
		return false;
	rearm_timer(); /* which some machines lose: docs/findings.md */
	return make_unique(line, disk);
}
