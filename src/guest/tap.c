#include "tap.h"

#include <stdlib.h>
#include <string.h>

#include "util.h"

enum { MOST_LINES = 20000, MOST_BYTES = 2 << 20 };

static bool begins(const char *line, size_t size, const char *text)
{
	return size >= strlen(text) && memcmp(line, text, strlen(text)) == 0;
}

static bool is_between(const char *line, size_t size, size_t at, char first, char last)
{
	return at < size && line[at] >= first && line[at] <= last;
}

/* Length of an escape sequence of ECMA-48, or 0. Those of a string, such as a title, end with BEL or ESC \. */
static size_t escape(const char *line, size_t size)
{
	size_t end = 2;

	if (!begins(line, size, "\033"))
		return 0;
	if (begins(line, size, "\033[")) {
		while (is_between(line, size, end, ' ', '?'))
			end++;
		return is_between(line, size, end, '@', '~') ? end + 1 : 0;
	}
	if (begins(line, size, "\033]")) {
		while (end < size && line[end] != '\a' && line[end] != '\033')
			end++;
		if (end < size && line[end] == '\a')
			return end + 1;
		return begins(line + end, size - end, "\033\\") ? end + 2 : 0;
	}
	for (end = 1; is_between(line, size, end, ' ', '/');)
		end++;
	return is_between(line, size, end, '0', '~') ? end + 1 : 0;
}

/* Length of a blank, a comment sign, a byte order mark or an escape sequence; 0 for anything else. */
static size_t ornament(const char *line, size_t size, bool is_plain)
{
	if (size && (*line == ' ' || *line == '\t'))
		return 1;
	if (begins(line, size, "# "))
		return 2;
	if (is_plain)
		return 0;
	return begins(line, size, "\357\273\277") ? 3 : escape(line, size);
}

static void strip(const char **line, size_t *size, bool is_plain)
{
	size_t part;

	while ((part = ornament(*line, *size, is_plain)) > 0) {
		*line += part;
		*size -= part;
	}
}

static bool begins_tap(const char *line, size_t size)
{
	size_t part;

	strip(&line, &size, false);
	if (begins(line, size, "TAP version") || begins(line, size, "KTAP version") || begins(line, size, "Bail out!"))
		return true;
	if (begins(line, size, "1.."))
		return size > 3 && line[3] >= '0' && line[3] <= '9';
	if (begins(line, size, "not ")) {
		line += 4;
		size -= 4;
	}
	while ((part = escape(line, size)) > 0) {
		line += part;
		size -= part;
	}
	if (!begins(line, size, "ok"))
		return false;
	return size == 2 || line[2] == ' ' || line[2] == '\t' || line[2] == '\r' || line[2] == '\033';
}

/* A carriage return begins a line anew, as progress bars do. */
bool is_tap_line(const char *line, size_t size)
{
	const char *next;

	while (!begins_tap(line, size)) {
		next = memchr(line, '\r', size);
		if (!next)
			return false;
		size -= (size_t)(next + 1 - line);
		line = next + 1;
	}
	return true;
}

bool is_yaml_mark(const char *line, size_t size)
{
	strip(&line, &size, true);
	if (!begins(line, size, "---") && !begins(line, size, "..."))
		return false;
	for (size_t i = 3; i < size; i++)
		if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
			return false;
	return true;
}

static void append(struct tap *tap, const char *line, size_t size)
{
	tap->text = allocate(tap->text, tap->size + size + 1);
	memcpy(tap->text + tap->size, line, size);
	tap->text[tap->size + size] = '\n';
	tap->size += size + 1;
	tap->lines++;
}

void tap_add(struct tap *tap, const char *line, size_t size)
{
	char *end;

	if (tap->is_full || (!is_tap_line(line, size) && (tap->lines == 0 || !is_yaml_mark(line, size))))
		return;
	if (tap->lines < MOST_LINES && tap->size + size < MOST_BYTES) {
		append(tap, line, size);
		return;
	}
	tap->is_full = true;
	end = format("Bail out! more lines than the %d that are kept", MOST_LINES);
	append(tap, end, strlen(end));
	free(end);
}
