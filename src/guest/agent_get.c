#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent_builtins.h"
#include "agent_tree.h"
#include "frames.h"
#include "util.h"

#define MOST_DEPTH 128

static struct {
	uint8_t bytes[64 << 10];
	size_t used;
	uint64_t left; /* bytes that may still be sent */
	char **skipped; /* paths below the top that are left out; NULL without records of owners */
	dev_t device;
} out;

static bool flush(void)
{
	bool is_written = write_all(1, out.bytes, out.used);

	out.used = 0;
	return is_written;
}

static bool add(const void *data, size_t size)
{
	if (out.used + size > sizeof(out.bytes) && !flush())
		return false;
	if (size > sizeof(out.bytes))
		return write_all(1, data, size);
	memcpy(out.bytes + out.used, data, size);
	out.used += size;
	return true;
}

static void put64(uint8_t *at, uint64_t value)
{
	put32(at, (uint32_t)(value >> 32));
	put32(at + 4, (uint32_t)value);
}

static bool send_record(int type, const struct stat *status, uint64_t size, const char *path, const char *target)
{
	uint8_t head[RECORD_BYTES];
	size_t path_bytes = strlen(path), target_bytes = strlen(target);

	head[0] = (uint8_t)type;
	put32(head + 1, status ? status->st_mode : 0);
	put64(head + 5, size);
	put64(head + 13, status ? (uint64_t)status->st_mtime : 0);
	head[21] = (uint8_t)(path_bytes >> 8);
	head[22] = (uint8_t)path_bytes;
	head[23] = (uint8_t)(target_bytes >> 8);
	head[24] = (uint8_t)target_bytes;
	return add(head, sizeof(head)) && add(path, path_bytes) && add(target, target_bytes);
}

static bool send_fault(const char *path)
{
	return send_record(RECORD_FAULT, NULL, (uint64_t)errno, path, "");
}

/* Send as many bytes as were announced: zeros where the file has become shorter. */
static bool send_bytes(int file, uint64_t size)
{
	static char buffer[64 << 10];

	while (size) {
		size_t part = size < sizeof(buffer) ? (size_t)size : sizeof(buffer);
		ssize_t count = read(file, buffer, part);

		if (count <= 0) {
			memset(buffer, 0, part);
			count = (ssize_t)part;
		}
		if (!add(buffer, (size_t)count))
			return false;
		size -= (uint64_t)count;
	}
	return true;
}

/* `UID GID LINKS DEVICE INODE MAJOR MINOR [CAPABILITIES]`: two files of one device and inode are one file. Capabilities are
 * the extended attribute in hexadecimal. */
static bool send_owner(int file, const struct stat *status)
{
	uint8_t value[64];
	char text[300];
	ssize_t size = file < 0 ? 0 : fgetxattr(file, "security.capability", value, sizeof(value));
	int used;

	if (!out.skipped)
		return true;
	used = snprintf(text, sizeof(text), "%u %u %lu %llu %llu %u %u ", status->st_uid, status->st_gid,
			(unsigned long)status->st_nlink, (unsigned long long)status->st_dev,
			(unsigned long long)status->st_ino, major(status->st_rdev), minor(status->st_rdev));
	for (ssize_t i = 0; i < size; i++)
		used += snprintf(text + used, sizeof(text) - (size_t)used, "%02x", value[i]);
	return send_record(RECORD_OWNER, NULL, 0, "", text);
}

static bool send_file(int folder, const char *name, const struct stat *status, const char *path)
{
	int file = openat(folder, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	uint64_t size = (uint64_t)status->st_size;
	bool is_sent;

	if (file < 0)
		return send_fault(path);
	if (size > out.left) {
		close(file);
		errno = EFBIG;
		return send_fault(path);
	}
	out.left -= size;
	is_sent = send_owner(file, status) && send_record(RECORD_FILE, status, size, path, "") && send_bytes(file, size);
	close(file);
	return is_sent;
}

static bool send_link(int folder, const char *name, const struct stat *status, const char *path)
{
	char target[RECORD_TEXT];
	ssize_t size = readlinkat(folder, name, target, sizeof(target) - 1);

	if (size < 0)
		return send_fault(path);
	target[size] = 0;
	return send_owner(-1, status) && send_record(RECORD_LINK, status, 0, path, target);
}

static bool send_any(int folder, const char *name, char *path, int depth, int flags);

static bool send_folder(int parent, const char *name, char *path, int depth)
{
	int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = folder < 0 ? NULL : fdopendir(folder);
	size_t used = strlen(path);
	bool is_sent = true;

	if (!entries) {
		if (folder >= 0)
			close(folder);
		return send_fault(path);
	}
	for (struct dirent *entry; is_sent && (entry = readdir(entries));) {
		size_t length = strlen(entry->d_name);

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		errno = ENAMETOOLONG;
		if (depth >= MOST_DEPTH || used + length + 2 > PATH_MAX) {
			is_sent = send_fault(path);
			break;
		}
		memcpy(path + used, "/", used ? 1 : 0);
		memcpy(path + used + (used ? 1 : 0), entry->d_name, length + 1);
		is_sent = send_any(folder, entry->d_name, path, depth + 1, AT_SYMLINK_NOFOLLOW);
		path[used] = 0;
	}
	closedir(entries);
	return is_sent;
}

static bool is_skipped(const char *path)
{
	char **skipped = out.skipped;

	while (skipped && *skipped && strcmp(*skipped, path))
		skipped++;
	return skipped && *skipped;
}

/* With owners, what is mounted below the top is not part of the tree. */
static bool is_mount(const struct stat *status, int depth)
{
	if (depth == 0)
		out.device = status->st_dev;
	return out.skipped && status->st_dev != out.device;
}

static bool send_any(int folder, const char *name, char *path, int depth, int flags)
{
	struct stat status;

	if (is_skipped(path))
		return true;
	if (fstatat(folder, name, &status, flags))
		return send_fault(path);
	if (S_ISREG(status.st_mode))
		return send_file(folder, name, &status, path);
	if (S_ISLNK(status.st_mode))
		return send_link(folder, name, &status, path);
	if (!send_owner(-1, &status))
		return false;
	if (!S_ISDIR(status.st_mode))
		return send_record(RECORD_OTHER, &status, 0, path, "");
	if (!send_record(RECORD_FOLDER, &status, 0, path, ""))
		return false;
	return is_mount(&status, depth) || send_folder(folder, name, path, depth);
}

int get_main(char **words)
{
	static char path[PATH_MAX];

	if (!words[0] || !words[1])
		return 2;
	out.left = strtoull(words[0], NULL, 10);
	out.skipped = words[2] && !strcmp(words[2], "owners") ? words + 3 : NULL;
	if (!send_any(AT_FDCWD, words[1], path, 0, 0) || !send_record(RECORD_END, NULL, 0, "", "") || !flush())
		return complain("send it", words[1]);
	return 0;
}
