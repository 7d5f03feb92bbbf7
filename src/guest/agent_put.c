#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_builtins.h"
#include "agent_tree.h"
#include "frames.h"
#include "util.h"

struct record {
	int type;
	mode_t mode;
	uint64_t size;
	int64_t seconds;
	char path[PATH_MAX];
	char target[RECORD_TEXT];
};

static uint64_t get64(const uint8_t *at)
{
	return (uint64_t)get32(at) << 32 | get32(at + 4);
}

static bool take_text(char *text, size_t length, size_t room)
{
	if (length >= room || !read_exactly(0, text, length) || memchr(text, 0, length))
		return false;
	text[length] = 0;
	return true;
}

/* Read a record's head, with its path below the top. */
static bool read_record(struct record *record, const char *top)
{
	uint8_t head[RECORD_BYTES];
	size_t used = strlen(top);

	if (!read_exactly(0, head, sizeof(head)))
		return false;
	record->type = head[0];
	record->mode = get32(head + 1) & 07777;
	record->size = get64(head + 5);
	record->seconds = (int64_t)get64(head + 13);
	memcpy(record->path, top, used + 1);
	if (head[21] || head[22])
		record->path[used++] = '/';
	return take_text(record->path + used, (size_t)head[21] << 8 | head[22], sizeof(record->path) - used) &&
	       take_text(record->target, (size_t)head[23] << 8 | head[24], sizeof(record->target));
}

static bool copy_bytes(int file, uint64_t size)
{
	static char buffer[64 << 10];

	while (size) {
		size_t part = size < sizeof(buffer) ? (size_t)size : sizeof(buffer);

		if (!read_exactly(0, buffer, part) || !write_all(file, buffer, part))
			return false;
		size -= part;
	}
	return true;
}

static bool put_file(const struct record *record)
{
	struct timespec times[2] = {{record->seconds, 0}, {record->seconds, 0}};
	bool is_whole;
	int file, fault;

	unlink(record->path); /* it may be a running program, or a link elsewhere */
	file = open(record->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file < 0)
		return false;
	is_whole = copy_bytes(file, record->size) && !fchmod(file, record->mode) && !futimens(file, times);
	fault = errno;
	if (close(file) && is_whole) {
		is_whole = false;
		fault = errno;
	}
	if (!is_whole)
		unlink(record->path);
	errno = fault;
	return is_whole;
}

static bool put_folder(const struct record *record)
{
	struct stat status;

	if (mkdir(record->path, 0700) && (errno != EEXIST || stat(record->path, &status) || !S_ISDIR(status.st_mode)))
		return false;
	return chmod(record->path, record->mode) == 0;
}

static bool put_record(const struct record *record)
{
	switch (record->type) {
	case RECORD_FILE:
		return put_file(record);
	case RECORD_FOLDER:
		return put_folder(record);
	case RECORD_LINK:
		unlink(record->path);
		return symlink(record->target, record->path) == 0;
	default:
		errno = EINVAL;
		return false;
	}
}

static bool make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(path, 0755) && errno != EEXIST)
			return false;
		*slash = '/';
	}
	return true;
}

/* The path of the top: inside of an existing folder if there is a name. */
static bool find_top(char *top, size_t room, const char *path, const char *name)
{
	struct stat status;
	size_t length = strlen(path);
	bool is_folder = !stat(path, &status) && S_ISDIR(status.st_mode);
	bool is_inside = *name && (is_folder || (length && path[length - 1] == '/'));
	int size = is_inside ? snprintf(top, room, "%s/%s", path, name) : snprintf(top, room, "%s", path);

	if (size < 1 || (size_t)size >= room) {
		errno = ENAMETOOLONG;
		return false;
	}
	return make_parents(top);
}

int put_main(char **words)
{
	static struct record record;
	char top[PATH_MAX - 256];

	umask(0);
	if (!words[0] || !words[1])
		return 2;
	if (!find_top(top, sizeof(top), words[0], words[1]))
		return complain("make the folder", words[0]);
	for (;;) {
		if (!read_record(&record, top))
			return complain("read what is copied", top);
		if (record.type == RECORD_END)
			return 0;
		if (!put_record(&record))
			return complain("write it", record.path);
	}
}
