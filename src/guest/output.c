#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "console.h"
#include "util.h"

enum { LINE_BYTES = 32 << 10 }; /* longer lines are printed in parts */

void output_open(struct output *output, int file, const char *name)
{
	*output = (struct output){ .file = file, .name = name };
}

void output_end(struct output *output)
{
	int size = 0;

	output->is_ended = true;
	if (output->file >= 0 && ioctl(output->file, FIONREAD, &size) == 0 && size > 0)
		output->unread = (size_t)size;
	output_print(output);
}

static bool is_waiting_to_print(const struct output *output)
{
	return output->is_ended && !output->is_drained && output->unread == 0;
}

bool output_is_wanted(const struct output *output)
{
	return output->file >= 0 && output->end - output->start < LINE_BYTES && !is_waiting_to_print(output);
}

static void print_line(struct output *output, const char *line, size_t size)
{
	console_write(output->name, strlen(output->name));
	console_write("| ", 2);
	console_write(line, size);
	console_write("\n", 1);
	if (!output->is_drained)
		tap_add(&output->tap, line, size);
}

/* Print the first line of what was read; all of it if there is no line end and none is to come. */
static bool print_first(struct output *output, bool is_last)
{
	const char *line = output->data + output->start;
	size_t length = output->end - output->start;
	const char *stop = length ? memchr(line, '\n', length) : NULL;
	size_t size = stop ? (size_t)(stop - line) : length;

	if (length == 0 || (stop == NULL && !is_last && length < LINE_BYTES))
		return false;
	print_line(output, line, size);
	output->start += size + (stop != NULL);
	return true;
}

void output_print(struct output *output)
{
	bool is_last = is_waiting_to_print(output) || output->file < 0;

	while (console_has_room() && print_first(output, is_last))
		;
	if (is_last && output->is_ended && output->start == output->end)
		output->is_drained = true;
}

/* Move what was read to the beginning. Return the room behind it. */
static size_t make_room(struct output *output)
{
	if (output->data == NULL)
		output->data = allocate(NULL, LINE_BYTES);
	output->end -= output->start;
	memmove(output->data, output->data + output->start, output->end);
	output->start = 0;
	return LINE_BYTES - output->end;
}

void output_take(struct output *output)
{
	size_t room = make_room(output);
	ssize_t count;

	if (output->is_ended && !output->is_drained && room > output->unread)
		room = output->unread; /* what comes behind it is of processes left behind */
	if (room == 0)
		return;
	count = read(output->file, output->data + output->end, room);
	if (count > 0) {
		output->end += (size_t)count;
		output->unread -= output->unread < (size_t)count ? output->unread : (size_t)count;
	} else if (count < 0 && errno == EAGAIN) {
		output->unread = 0; /* somebody else has read it */
	} else if (count == 0 || errno != EINTR) {
		close(output->file);
		output->file = -1;
		output->unread = 0;
	}
	output_print(output);
}

void output_close(struct output *output)
{
	if (output->file >= 0)
		close(output->file);
	output->file = -1;
	free(output->data);
	free(output->tap.text);
	output->data = output->tap.text = NULL;
	output->tap.size = output->tap.lines = 0;
}
