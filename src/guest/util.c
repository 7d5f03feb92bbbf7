#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int wait_ms(int64_t until_ms)
{
	int64_t left = until_ms == NEVER ? -1 : until_ms - now_ms();

	if (until_ms != NEVER && left < 0)
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}

void *allocate(void *old, size_t size)
{
	void *memory;

	while ((memory = realloc(old, size)) == NULL)
		poll(NULL, 0, 100);
	return memory;
}

char *format(const char *text, ...)
{
	va_list words;
	int size;
	char *made;

	va_start(words, text);
	size = vsnprintf(NULL, 0, text, words);
	va_end(words);
	made = allocate(NULL, (size_t)size + 1);
	va_start(words, text);
	vsnprintf(made, (size_t)size + 1, text, words);
	va_end(words);
	return made;
}

bool parse_number(const char *text, int64_t *number)
{
	size_t size = strspn(text, "0123456789");

	if (size == 0 || size > 18 || text[size] != '\0' || (text[0] == '0' && size > 1))
		return false;
	*number = strtoll(text, NULL, 10);
	return true;
}

char *next_word(char **rest, char separator)
{
	char *word = *rest, *end;

	if (word == NULL)
		return NULL;
	end = strchr(word, separator);
	*rest = end ? end + 1 : NULL;
	if (end)
		*end = '\0';
	return word;
}

ssize_t read_text(const char *path, char *text, size_t size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t length = 0, more = 0;

	if (file < 0)
		return -1;
	while ((size_t)length < size - 1 && (more = read(file, text + length, size - 1 - (size_t)length)) > 0)
		length += more;
	close(file);
	text[length] = '\0';
	return more < 0 ? -1 : length;
}

bool read_line(const char *path, char *line, size_t size)
{
	if (read_text(path, line, size) <= 0)
		return false;
	line[strcspn(line, "\n")] = '\0';
	return true;
}

char *read_all(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t size = 0, room = 4096;
	ssize_t more;
	char *text;

	if (file < 0)
		return NULL;
	text = allocate(NULL, room);
	while ((more = read(file, text + size, room - size - 1)) > 0) {
		size += (size_t)more;
		if (size + 1 == room)
			text = allocate(text, room *= 2);
	}
	close(file);
	text[size] = '\0';
	return text;
}

bool write_all(int file, const void *data, size_t size)
{
	const char *rest = data;

	while (size > 0) {
		ssize_t done = write(file, rest, size);

		if (done > 0) {
			rest += done;
			size -= (size_t)done;
		} else if (done < 0 && errno == EAGAIN) {
			struct pollfd room = { .fd = file, .events = POLLOUT };

			poll(&room, 1, 10);
		} else if (done == 0 || errno != EINTR) {
			return false;
		}
	}
	return true;
}

bool write_text(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	bool is_written = file >= 0 && write_all(file, text, strlen(text));

	if (file >= 0)
		close(file);
	return is_written;
}

bool make_folders(const char *path)
{
	char part[PATH_MAX];
	struct stat status;
	size_t size = strlen(path);

	if (size >= sizeof part) {
		errno = ENAMETOOLONG;
		return false;
	}
	memcpy(part, path, size + 1);
	for (size_t i = 1; i <= size; i++) {
		if (part[i] != '/' && part[i] != '\0')
			continue;
		part[i] = '\0';
		if (mkdir(part, 0777) != 0 && errno != EEXIST)
			return false;
		part[i] = path[i];
	}
	return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int compare(const void *first, const void *second)
{
	return strcmp(*(char *const *)first, *(char *const *)second);
}

static char **list(const char *path, bool has_hidden)
{
	DIR *folder = opendir(path);
	struct dirent *entry;
	char **names = allocate(NULL, sizeof *names);
	size_t count = 0;

	while (folder && (entry = readdir(folder)) != NULL) {
		if (entry->d_name[0] == '.' && (!has_hidden || is_dots(entry->d_name)))
			continue;
		names = allocate(names, (count + 2) * sizeof *names);
		names[count++] = format("%s", entry->d_name);
	}
	if (folder)
		closedir(folder);
	qsort(names, count, sizeof *names, compare);
	names[count] = NULL;
	return names;
}

char **list_folder(const char *path)
{
	return list(path, false);
}

char **list_all(const char *path)
{
	return list(path, true);
}

void free_list(char **names)
{
	for (size_t i = 0; names[i]; i++)
		free(names[i]);
	free(names);
}
