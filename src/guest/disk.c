#include "disk.h"

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "settings.h"
#include "util.h"

enum { DISK_S = 20, RETRY_MS = 20 };

static bool try_disk(const char *serial, char *disk, size_t size)
{
	char **blocks = list_folder("/sys/block"), line[64], path[512];
	bool is_found = false;

	for (size_t i = 0; blocks[i] && !is_found; i++) {
		snprintf(path, sizeof path, "/sys/block/%s/serial", blocks[i]);
		snprintf(disk, size, "/dev/%s", blocks[i]);
		is_found = read_line(path, line, sizeof line) && strcmp(line, serial) == 0 && access(disk, F_OK) == 0;
	}
	free_list(blocks);
	return is_found;
}

bool find_disk(const char *serial, char *disk, size_t size)
{
	int64_t until_ms = now_ms() + DISK_S * settings.scale * 1000;
	bool is_found;

	while (!(is_found = try_disk(serial, disk, size)) && now_ms() < until_ms)
		poll(NULL, 0, RETRY_MS);
	return is_found;
}
