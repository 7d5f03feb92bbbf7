/* A reader of the one number that a hook needs of the runtime's JSON. The values of annotations are the spec's. */
#include "hook.h"

#include <string.h>

enum { DEEPEST = 32, LARGEST_PID = 4194304 }; /* the kernel's PID_MAX_LIMIT */

struct reader {
	const char *at;
	const char *end;
};

static int peek(struct reader *reader)
{
	while (reader->at < reader->end && memchr(" \t\r\n", *reader->at, 4))
		reader->at++;
	return reader->at < reader->end ? (unsigned char)*reader->at : -1;
}

static int accept(struct reader *reader, char character)
{
	if (peek(reader) != character)
		return 0;
	reader->at++;
	return 1;
}

/* Skip a string; set where its text, with escapes, begins and ends. */
static int skip_string(struct reader *reader, const char **start, size_t *size)
{
	if (!accept(reader, '"'))
		return 0;
	*start = reader->at;
	while (reader->at < reader->end && *reader->at != '"')
		reader->at += *reader->at == '\\' && reader->at + 1 < reader->end ? 2 : 1;
	*size = (size_t)(reader->at - *start);
	return accept(reader, '"');
}

static int skip_value(struct reader *reader, int depth);

/* Skip the members of an object or array after its first character. */
static int skip_members(struct reader *reader, char last, int depth)
{
	const char *key;
	size_t size;

	if (accept(reader, last))
		return 1;
	do {
		if (last == '}' && !(skip_string(reader, &key, &size) && accept(reader, ':')))
			return 0;
		if (!skip_value(reader, depth))
			return 0;
	} while (accept(reader, ','));
	return accept(reader, last);
}

static int skip_word(struct reader *reader)
{
	const char *start = reader->at;

	while (reader->at < reader->end && !memchr(" \t\r\n,:]}[{\"", *reader->at, 11))
		reader->at++;
	return reader->at > start;
}

static int skip_value(struct reader *reader, int depth)
{
	const char *start;
	size_t size;

	switch (peek(reader)) {
	case '"':
		return skip_string(reader, &start, &size);
	case '{':
		reader->at++;
		return depth < DEEPEST && skip_members(reader, '}', depth + 1);
	case '[':
		reader->at++;
		return depth < DEEPEST && skip_members(reader, ']', depth + 1);
	default:
		return skip_word(reader);
	}
}

/* Read a number from 1 to LARGEST_PID, or return -1. */
static pid_t read_pid(struct reader *reader)
{
	pid_t pid = 0;

	for (int next = peek(reader); next >= '0' && next <= '9'; next = reader->at < reader->end ? *reader->at : -1) {
		pid = pid * 10 + (next - '0');
		if (pid > LARGEST_PID)
			return -1;
		reader->at++;
	}
	return pid > 0 ? pid : -1;
}

pid_t oci_state_pid(const char *text, size_t size)
{
	struct reader reader = {text, text + size};
	const char *key;
	pid_t pid = -1;

	if (!accept(&reader, '{'))
		return -1;
	do {
		if (!skip_string(&reader, &key, &size) || !accept(&reader, ':'))
			return -1;
		if (size == 3 && memcmp(key, "pid", 3) == 0) {
			pid = read_pid(&reader);
			if (pid < 0)
				return -1;
		} else if (!skip_value(&reader, 0)) {
			return -1;
		}
	} while (accept(&reader, ','));
	return accept(&reader, '}') && peek(&reader) < 0 ? pid : -1;
}
