#include "tap.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util.h"

enum { MOST_LINES = 20000, MOST_BYTES = 2 << 20 };

static bool begins(const char *line, size_t size, const char *text)
{
	return size >= strlen(text) && memcmp(line, text, strlen(text)) == 0;
}

static bool begins_in_any_case(const char *line, size_t size, const char *text)
{
	return size >= strlen(text) && strncasecmp(line, text, strlen(text)) == 0;
}

static bool is_between(const char *line, size_t size, size_t at, char first, char last)
{
	return at < size && line[at] >= first && line[at] <= last;
}

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t';
}

/* Length of an escape sequence of ECMA-48, or 0. Those of a string, such as a title, end with BEL or ESC \. */
static size_t escape(const char *line, size_t size)
{
	size_t end = 2;

	if (size < 2 || *line != '\033')
		return 0;
	if (line[1] == '[') {
		while (is_between(line, size, end, ' ', '?'))
			end++;
		return is_between(line, size, end, '@', '~') ? end + 1 : 0;
	}
	if (line[1] && strchr("]PX^_k", line[1])) {
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

/* Whether an escape sequence moves the cursor to another line or column. */
static bool is_move(const char *code, size_t size)
{
	return strchr(code[1] == '[' ? "EFGHdf`" : "DEMc", code[size - 1]) != NULL;
}

/* Write what a terminal shows of a line: no colours, and a line end for a control character or a move of the cursor.
 * Characters beyond ASCII are for the host to look at, but for a blank that does not break. */
static size_t show(const char *line, size_t size, char *text)
{
	size_t length = 0, part;

	for (size_t at = 0; at < size; at += part ? part : 1) {
		part = escape(line + at, size - at);
		if (part ? is_move(line + at, part) : line[at] && iscntrl((unsigned char)line[at]) && line[at] != '\t')
			text[length++] = '\n';
		else if (part == 0 && line[at] == '\xa0')
			text[length++] = ' ';
		else if (part == 0 && line[at] && isascii((unsigned char)line[at]))
			text[length++] = line[at];
	}
	return length;
}

static void strip(const char **line, size_t *size)
{
	size_t part;

	while ((part = *size && is_blank(**line) ? 1 : begins(*line, *size, "# ") ? 2 : 0) > 0) {
		*line += part;
		*size -= part;
	}
}

/* As prove has it: `not ok` ends with the word, whatever follows. */
static bool is_result(const char *line, size_t size)
{
	bool is_bad = size > 3 && begins(line, size, "not") && is_blank(line[3]);
	size_t end = is_bad ? 4 : 0;

	while (is_bad && end < size && is_blank(line[end]))
		end++;
	if (!begins(line + end, size - end, "ok"))
		return false;
	end += 2;
	return end == size || is_blank(line[end]) || (is_bad && !isalnum((unsigned char)line[end]) && line[end] != '_');
}

static bool begins_tap(const char *line, size_t size)
{
	strip(&line, &size);
	if (begins(line, size, "1.."))
		return is_between(line, size, 3, '0', '9');
	return is_result(line, size) || begins_in_any_case(line, size, "TAP version") ||
	       begins_in_any_case(line, size, "KTAP version") || begins_in_any_case(line, size, "Bail out!");
}

static bool is_plain(const char *line, size_t size)
{
	while (size && (*line == '\t' || is_between(line, size, 0, ' ', '~'))) {
		line++;
		size--;
	}
	return size == 0;
}

static bool shows_tap(const char *line, size_t size)
{
	char *text = allocate(NULL, size + 1), *end = text + show(line, size, text), *next;
	bool is_tap = false;

	for (char *start = text; start < end && !is_tap; start = next + 1) {
		next = memchr(start, '\n', (size_t)(end - start));
		if (!next)
			next = end;
		is_tap = begins_tap(start, (size_t)(next - start));
	}
	free(text);
	return is_tap;
}

bool is_tap_line(const char *line, size_t size)
{
	return begins_tap(line, size) || (!is_plain(line, size) && shows_tap(line, size));
}

bool is_yaml_mark(const char *line, size_t size)
{
	strip(&line, &size);
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
