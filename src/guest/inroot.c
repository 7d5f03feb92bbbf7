#include "inroot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's answer to a rename or mount during the look-up is EAGAIN. */
enum { TRIES = 100 };

int open_in_root(int root, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long file = -1;

	for (int i = 0; i < TRIES; i++) {
		file = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
		if (file >= 0 || errno != EAGAIN)
			break;
	}
	return (int)file;
}

/* Open a folder of a path's beginning; make it in `above` if it is missing. */
static int step(int root, const char *path, int above, const char *name)
{
	int folder = open_in_root(root, path, O_PATH | O_DIRECTORY, 0);

	if (folder >= 0 || errno != ENOENT)
		return folder;
	if (mkdirat(above, name, 0777) != 0 && errno != EEXIST)
		return -1;
	return open_in_root(root, path, O_PATH | O_DIRECTORY, 0);
}

int make_folders_in_root(int root, const char *path)
{
	char part[PATH_MAX];
	size_t size = strlen(path);
	int folder;

	if (size >= sizeof part) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(part, path, size + 1);
	folder = open_in_root(root, "/", O_PATH | O_DIRECTORY, 0);
	for (size_t start = 0, end; folder >= 0 && start < size; start = end + 1) {
		int above = folder;

		end = start + strcspn(path + start, "/");
		if (end == start)
			continue;
		part[end] = '\0';
		folder = step(root, part, above, part + start);
		part[end] = path[end];
		close(above);
	}
	return folder;
}

int make_file_in_root(int root, const char *path)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t size = slash ? (size_t)(slash - path) : 0;
	int above, file;

	if (size >= sizeof folder) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(folder, path, size);
	folder[size] = '\0';
	above = make_folders_in_root(root, folder);
	if (above < 0)
		return -1;
	close(above);
	file = open_in_root(root, path, O_RDONLY | O_CREAT | O_NONBLOCK | O_NOCTTY, 0666);
	if (file >= 0)
		close(file);
	return open_in_root(root, path, O_PATH, 0);
}
