#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "util.h"

#define PORTS "/sys/class/virtio-ports"

enum { RETRY_MS = 5, POLL_MS = 100 };

/* Make the node of a port: init's own /dev lacks it where containers see another one. */
static bool make_node(const char *port, const char *node)
{
	char path[512], line[32];
	unsigned major, minor;

	snprintf(path, sizeof path, PORTS "/%s/dev", port);
	return read_line(path, line, sizeof line) && sscanf(line, "%u:%u", &major, &minor) == 2 &&
	       mknod(node, S_IFCHR | 0600, makedev(major, minor)) == 0;
}

static int open_node(const char *port)
{
	char node[512];
	int file;

	snprintf(node, sizeof node, "/dev/%s", port);
	file = open(node, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (file < 0 && errno == ENOENT && make_node(port, node))
		file = open(node, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	return file;
}

/* Open the port if it is there. */
static int try_port(const char *name)
{
	char **ports = list_folder(PORTS), line[128], path[512];
	int file = -1;

	for (size_t i = 0; ports[i] && file < 0; i++) {
		snprintf(path, sizeof path, PORTS "/%s/name", ports[i]);
		if (read_line(path, line, sizeof line) && strcmp(line, name) == 0)
			file = open_node(ports[i]);
	}
	free_list(ports);
	return file;
}

int open_port(const char *name, int64_t until_ms)
{
	int file;

	while ((file = try_port(name)) < 0 && now_ms() < until_ms)
		poll(NULL, 0, RETRY_MS);
	return file;
}

bool write_channel(int file, const char *data, size_t size, int64_t closed_ms)
{
	int64_t until_ms = now_ms() + closed_ms;

	while (size > 0) {
		struct pollfd room = { .fd = file, .events = POLLOUT };
		ssize_t done = write(file, data, size);

		if (done > 0) {
			data += done;
			size -= (size_t)done;
		} else if (errno != EINTR && errno != EAGAIN) {
			return false;
		} else if (poll(&room, 1, POLL_MS) > 0 && room.revents & POLLHUP) {
			if (now_ms() >= until_ms)
				return false;
			poll(NULL, 0, RETRY_MS);
		} else {
			until_ms = now_ms() + closed_ms;
		}
	}
	return true;
}

/* Read a byte. Return 0 if the time is over, -1 on a failure. The end of a port is that no host has it open yet. */
static ssize_t read_byte(int file, char *byte, int64_t until_ms)
{
	for (;;) {
		ssize_t count = read(file, byte, 1);
		struct pollfd ready = { .fd = file, .events = POLLIN };

		if (count > 0)
			return 1;
		if (count < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (now_ms() >= until_ms)
			return 0;
		if (count == 0)
			poll(NULL, 0, RETRY_MS);
		else
			poll(&ready, 1, wait_ms(until_ms));
	}
}

ssize_t read_channel_line(int file, char *line, size_t size, int64_t until_ms)
{
	size_t length = 0;

	for (;;) {
		char byte;

		if (read_byte(file, &byte, until_ms) <= 0 || length + 1 >= size)
			return -1;
		if (byte == '\n') {
			if (length && line[length - 1] == '\r')
				length--;
			line[length] = '\0';
			return (ssize_t)length;
		}
		line[length++] = byte;
	}
}
