#include "copy_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

static bool copy_contents(const char *from, const char *to)
{
	int source = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ssize_t count = -1;

	if (source >= 0 && target >= 0)
		while ((count = sendfile(target, source, NULL, 1 << 20)) > 0)
			;
	if (source >= 0)
		close(source);
	if (target >= 0)
		close(target);
	return count == 0;
}

static bool copy_link(const char *from, const char *to)
{
	char text[PATH_MAX];
	ssize_t size = readlink(from, text, sizeof text - 1);

	if (size < 0)
		return false;
	text[size] = '\0';
	return symlink(text, to) == 0;
}

static bool copy_folder(const char *from, const char *to)
{
	char **names = list_all(from);
	bool is_copied = mkdir(to, 0700) == 0 || errno == EEXIST;

	for (size_t i = 0; is_copied && names[i]; i++) {
		char *source = format("%s/%s", from, names[i]), *target = format("%s/%s", to, names[i]);

		is_copied = copy_tree(source, target);
		free(source);
		free(target);
	}
	free_list(names);
	return is_copied;
}

static bool copy_attributes(const char *path, const struct stat *status)
{
	const struct timespec times[2] = { status->st_atim, status->st_mtim };

	return lchown(path, status->st_uid, status->st_gid) == 0 &&
	       (S_ISLNK(status->st_mode) || chmod(path, status->st_mode & 07777) == 0) &&
	       utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) == 0;
}

bool copy_tree(const char *from, const char *to)
{
	struct stat status;
	bool is_copied;

	if (lstat(from, &status) != 0)
		return false;
	if (!S_ISDIR(status.st_mode) && unlink(to) != 0 && errno != ENOENT)
		return false;
	if (S_ISDIR(status.st_mode))
		is_copied = copy_folder(from, to);
	else if (S_ISLNK(status.st_mode))
		is_copied = copy_link(from, to);
	else if (S_ISREG(status.st_mode))
		is_copied = copy_contents(from, to);
	else
		is_copied = mknod(to, status.st_mode, status.st_rdev) == 0;
	return is_copied && copy_attributes(to, &status);
}
