/* Readers of what others wrote, for a fuzzer: whatever they read, they stay in bounds, and these conditions hold. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent_request.h"
#include "base64.h"
#include "control.h"
#include "drivers.h"
#include "frames.h"
#include "hook.h"
#include "kernel_log.h"
#include "tap.h"

#define HOLDS(condition) ((condition) ? (void)0 : fail(#condition))

static void fail(const char *condition)
{
	fprintf(stderr, "does not hold: %s\n", condition);
	abort();
}

/* A copy of the very size, so that a byte too much is seen. */
static void *copy_of(const uint8_t *data, size_t size)
{
	void *copy = malloc(size ? size : 1);

	if (size)
		memcpy(copy, data, size);
	return copy;
}

/* Frames come out whole and in bounds however the bytes arrive: the first byte says in what parts. */
static void read_frames(const uint8_t *data, size_t size)
{
	struct frame_reader *reader = calloc(1, sizeof *reader);
	size_t part = size ? data[0] + 1U : 1, taken = 0, given = 0;
	int result = 0;

	while (given < size && result >= 0) {
		struct frame frame;
		size_t room, count;
		uint8_t *at = frame_room(reader, &room);

		HOLDS(room > 0 && at >= reader->buffer && at + room <= reader->buffer + sizeof reader->buffer);
		count = part < size - given ? part : size - given;
		count = count < room ? count : room;
		memcpy(at, data + given, count);
		given += count;
		while ((result = frame_next(reader, &frame)) > 0) {
			HOLDS(frame.length <= FRAME_PAYLOAD && frame.type > 0 && frame.type < FRAME_TYPES);
			HOLDS(frame.data >= reader->buffer && frame.data + frame.length <= reader->buffer + reader->end);
			taken += FRAME_HEADER + frame.length;
			HOLDS(taken <= given);
		}
	}
	free(reader);
}

static void read_request(const uint8_t *data, size_t size)
{
	static struct request request;
	char *text = copy_of(data, size);

	if (request_parse(&request, text, size) == 0) {
		HOLDS(*request.root == '\0' || *request.root == '/');
		HOLDS(request.cwd >= text && request.cwd + strlen(request.cwd) < text + size);
		for (char **word = request.words; *word; word++)
			HOLDS(*word >= text && *word + strlen(*word) < text + size);
		for (char **word = request.env; *word; word++)
			HOLDS(*word >= text && *word + strlen(*word) < text + size);
	}
	free(text);
}

static void read_control(const uint8_t *data, size_t size)
{
	struct request_reader reader = {0};

	for (size_t i = 0; i < size; i++) {
		const char *service = request_add(&reader, (char)data[i]);

		HOLDS(service == NULL || data[i] == '\n');
		HOLDS(service == NULL || (strlen(service) > 0 && strlen(service) < CONTROL_BYTES));
		for (; service && *service; service++)
			HOLDS(*service > ' ' && *service < 127 && *service != '/');
	}
}

/* Records end in an empty line here. */
static void read_kernel_log(const uint8_t *data, size_t size)
{
	struct kernel_log log = {.mark = "MARK", .most = 2048, .first = -1};

	for (size_t start = 0, end; start < size; start = end + 1) {
		char *record;

		for (end = start; end < size && data[end] != 0xff; end++)
			;
		record = copy_of(data + start, end - start);
		if (kernel_log_add(&log, record, end - start))
			start = end = size;
		free(record);
	}
	HOLDS(log.worse_bytes + log.bad_bytes <= log.most + 404);
	for (const char *text = log.worse; text && *text; text++)
		HOLDS(*text >= ' ' && *text <= '~');
	for (const char *text = log.bad; text && *text; text++)
		HOLDS(*text >= ' ' && *text <= '~');
	free(log.worse);
	free(log.bad);
}

static void read_state(const uint8_t *data, size_t size)
{
	char *text = copy_of(data, size);
	pid_t pid = oci_state_pid(text, size);

	HOLDS(pid == -1 || (pid > 0 && pid <= 4194304));
	free(text);
}

static void read_tap(const uint8_t *data, size_t size)
{
	struct tap tap = {0};

	for (size_t start = 0, end; start < size; start = end + 1) {
		char *line;

		for (end = start; end < size && data[end] != '\n'; end++)
			;
		line = copy_of(data + start, end - start);
		tap_add(&tap, line, end - start);
		free(line);
	}
	HOLDS(tap.size <= size + 1 && tap.lines <= tap.size);
	free(tap.text);
}

static void read_base64(const uint8_t *data, size_t size)
{
	char *text = copy_of(data, size), *again = malloc(size + 4);
	uint8_t *bytes = malloc(size / 4 * 3 + 1);
	ssize_t count = base64_decode(text, size, bytes);

	if (count >= 0)
		HOLDS(base64_encode(bytes, (size_t)count, again) == size && memcmp(text, again, size) == 0);
	free(text);
	free(again);
	free(bytes);
}

/* A fault that only a fuzzer that follows the code finds soon. */
static void read_planted(const uint8_t *data, size_t size)
{
	if (size > 3 && data[0] == 'f')
		if (data[1] == 'u')
			if (data[2] == 'z')
				HOLDS(data[3] != 'z');
}

const struct target TARGETS[] = {
	{"frames", read_frames}, {"request", read_request}, {"control", read_control}, {"kernel-log", read_kernel_log},
	{"state", read_state},   {"tap", read_tap},         {"base64", read_base64},   {"planted", read_planted},
	{NULL, NULL},
};

const struct target *find_target(const char *name)
{
	for (const struct target *target = TARGETS; target->name; target++)
		if (strcmp(target->name, name) == 0)
			return target;
	fprintf(stderr, "no reader is called %s\n", name);
	exit(2);
}

/* For libFuzzer: the name is in the environment. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct target *target;

	if (!target)
		target = find_target(getenv("FUZZ_TARGET") ? getenv("FUZZ_TARGET") : "");
	target->read(data, size);
	return 0;
}
