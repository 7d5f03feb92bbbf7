#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_LINKS = 40, MOST_FOLDERS = 200 };

/* Folders from the root down to where the walk is, and the rest of its path. */
struct walker {
	int folders[MOST_FOLDERS];
	int depth; /* of the last one; the root's is 0, and is not closed */
	int links;
	char rest[2 * PATH_MAX];
};

static void leave_folders(struct walker *walker, int depth)
{
	while (walker->depth > depth)
		close(walker->folders[walker->depth--]);
}

/* Cut the next name off the rest of the path. Return whether there is one. */
static bool take_name(struct walker *walker, char name[NAME_MAX + 1])
{
	char *start = walker->rest + strspn(walker->rest, "/");
	size_t size = strcspn(start, "/");

	if (size > NAME_MAX) {
		errno = ENAMETOOLONG;
		return false;
	}
	memcpy(name, start, size);
	name[size] = '\0';
	memmove(walker->rest, start + size, strlen(start + size) + 1);
	errno = 0;
	return size > 0;
}

/* Put a link's text before the rest of the path. */
static bool follow_link(struct walker *walker, int link)
{
	char text[PATH_MAX];
	ssize_t size = readlinkat(link, "", text, sizeof text);
	size_t left = strlen(walker->rest) + 1;

	if (size < 0)
		return false;
	if (++walker->links > MOST_LINKS || (size_t)size + 1 + left > sizeof walker->rest) {
		errno = ELOOP;
		return false;
	}
	memmove(walker->rest + size + 1, walker->rest, left);
	memcpy(walker->rest, text, (size_t)size);
	walker->rest[size] = '/';
	if (size > 0 && text[0] == '/')
		leave_folders(walker, 0);
	return true;
}

/* Go on to a name in the last folder. */
static bool enter(struct walker *walker, const char *name, bool is_made)
{
	int above = walker->folders[walker->depth];
	int file = openat(above, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat status;
	bool is_followed;

	if (file < 0 && errno == ENOENT && is_made && (mkdirat(above, name, 0777) == 0 || errno == EEXIST))
		file = openat(above, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (file < 0)
		return false;
	if (fstat(file, &status) == 0 && !S_ISLNK(status.st_mode)) {
		if (walker->depth + 1 < MOST_FOLDERS) {
			walker->folders[++walker->depth] = file;
			return true;
		}
		errno = ENAMETOOLONG;
		close(file);
		return false;
	}
	is_followed = follow_link(walker, file);
	close(file);
	return is_followed;
}

static bool step(struct walker *walker, const char *name, bool is_made)
{
	if (strcmp(name, ".") == 0)
		return true;
	if (strcmp(name, "..") != 0)
		return enter(walker, name, is_made);
	if (walker->depth > 0)
		leave_folders(walker, walker->depth - 1);
	return true;
}

int walk(int root, const char *path, bool is_made)
{
	struct walker walker = { .folders = { root } };
	char name[NAME_MAX + 1];
	bool is_good = strlen(path) < PATH_MAX;
	int file = -1, error;

	if (is_good)
		strcpy(walker.rest, path);
	else
		errno = ENAMETOOLONG;
	while (is_good && take_name(&walker, name))
		is_good = step(&walker, name, is_made);
	if (is_good && errno == 0)
		file = fcntl(walker.folders[walker.depth], F_DUPFD_CLOEXEC, 0);
	error = errno;
	leave_folders(&walker, 0);
	errno = error;
	return file;
}
