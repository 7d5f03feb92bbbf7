#include "kernel_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"
#include "settings.h"
#include "util.h"

enum {
	LOG_BYTES = 128 << 10,
	CONSOLE_LOG_BYTES = 8 << 10,
	RECORD_BYTES = 16 << 10,
	KEPT_CHARACTERS = 400, /* of a record */
	WARNING = 4,
	ERROR = 3,
	READ_S = 20, /* a log that grows faster than it is read has no end */
};

/* Read a number up to a comma; move the text behind it. */
static bool take_number(char **text, int64_t *number)
{
	char *comma = strchr(*text, ',');

	if (comma == NULL)
		return false;
	*comma = '\0';
	if (!parse_number(*text, number)) {
		*comma = ',';
		return false;
	}
	*comma = ',';
	*text = comma + 1;
	return true;
}

/* A failure of the kernel's own tests (KTAP), in any line of a record. */
static bool is_failed_test(const char *line)
{
	static const char line_end[] = "\\x0a";
	const char *text = strchr(line, ';');

	while (text) {
		text += *text == ';' ? 1 : strlen(line_end);
		text += strspn(text, " ");
		if (strncmp(text, "not ok ", 7) == 0)
			return true;
		text = strstr(text, line_end);
	}
	return false;
}

/* Append a record to a list, its blanks escaped as the kernel escapes unprintable characters. */
static void keep(char **list, size_t *size, const char *line)
{
	size_t start = *size + 1, end = start + KEPT_CHARACTERS;
	char *text = *list = allocate(*list, end + 5);

	text[start - 1] = ' ';
	for (; *line && start < end; line++) {
		if (*line == ' ')
			start += (size_t)sprintf(text + start, "\\x20");
		else
			text[start++] = *line >= '!' && *line <= '~' ? *line : '?';
	}
	*size = start < end ? start : end;
	text[*size] = '\0';
}

bool kernel_log_add(struct kernel_log *log, const char *record, size_t size)
{
	char line[RECORD_BYTES], *rest = line;
	int64_t level, number;
	bool is_kept;

	if (size >= sizeof line)
		size = sizeof line - 1;
	memcpy(line, record, size);
	line[size] = '\0';
	line[strcspn(line, "\n")] = '\0';
	if (!take_number(&rest, &level) || !take_number(&rest, &number)) {
		log->left++;
		return false;
	}
	if (log->first < 0)
		log->first = number;
	if (strstr(line, log->mark) != NULL)
		return true;
	log->errors += level <= ERROR; /* above 7 it is not the kernel's */
	is_kept = level % 8 <= WARNING || is_failed_test(line);
	if (is_kept && log->worse_bytes + log->bad_bytes + strnlen(line, KEPT_CHARACTERS) > log->most)
		log->left++;
	else if (is_kept && level % 8 <= ERROR)
		keep(&log->worse, &log->worse_bytes, line);
	else if (is_kept)
		keep(&log->bad, &log->bad_bytes, line);
	return false;
}

/* Write an unpredictable line, up to which the log is then read. */
static bool write_mark(const char *mark)
{
	char open_to[32], *line;
	bool is_written;
	int file;

	if (read_line("/proc/sys/kernel/printk_devkmsg", open_to, sizeof open_to) && strcmp(open_to, "off") == 0)
		return false;
	file = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (file < 0)
		return false;
	line = format("<14>bootmatrix: the kernel's log is read up to here: %s\n", mark);
	is_written = write(file, line, strlen(line)) == (ssize_t)strlen(line);
	free(line);
	close(file);
	return is_written;
}

/* Read the log up to the mark. Return whether it was there. */
static bool read_log(struct kernel_log *log)
{
	int file = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int64_t until_ms = now_ms() + READ_S * settings.scale * 1000;
	bool is_whole = false;
	char record[RECORD_BYTES];

	while (file >= 0 && !is_whole && now_ms() < until_ms) {
		ssize_t size = read(file, record, sizeof record);

		if (size > 0)
			is_whole = kernel_log_add(log, record, (size_t)size);
		else if (size == 0 || (errno != EPIPE && errno != EINTR)) /* EPIPE: records were overwritten */
			break;
	}
	if (file >= 0)
		close(file);
	return is_whole;
}

void say_kernel(const char *first_level)
{
	char taints[32] = "0", level[64] = "0", mark[64] = "-", *text, *records;
	struct kernel_log log = { .mark = mark, .first = -1 };

	if (settings.mode != MODE_CELL)
		return;
	log.most = settings.is_console ? CONSOLE_LOG_BYTES : LOG_BYTES;
	read_line("/proc/sys/kernel/tainted", taints, sizeof taints);
	read_line("/proc/sys/kernel/printk", level, sizeof level);
	level[strcspn(level, " \t")] = '\0';
	read_line("/proc/sys/kernel/random/uuid", mark, sizeof mark);
	if (write_mark(mark) && read_log(&log))
		records = format("%u %lld %u%s%s", log.errors, (long long)log.first, log.left, log.worse ? log.worse : "",
		                 log.bad ? log.bad : "");
	else
		records = format("- - -");
	text = format("kernel %s %s %s %s %s", taints, first_level, level, mark, records);
	say_text(text);
	free(text);
	free(records);
	free(log.worse);
	free(log.bad);
}
