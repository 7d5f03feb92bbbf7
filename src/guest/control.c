#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report.h"
#include "util.h"

enum {
	CHUNK_BYTES = 4096,
	REQUEST_MS = 100, /* after a request the next one has to wait */
	READ_MS = 10,     /* after anything else */
};

struct control {
	struct control *next;
	char *name;
	int file;
	int64_t paused_ms; /* until then */
	char data[CHUNK_BYTES];
	size_t start, end; /* read and not looked at yet */
	bool is_noted;
	struct request_reader reader;
};

static struct control *controls;

bool is_service_name(const char *text)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.+-";

	return *text && strspn(text, allowed) == strlen(text);
}

/* Return the service of a line that is a request. */
static const char *service_of(char *line)
{
	static const char verb[] = "restart", blanks[] = " \t";
	char *name = line + strspn(line, blanks), *end;

	if (strncmp(name, verb, sizeof verb - 1) != 0 || strspn(name + sizeof verb - 1, blanks) == 0)
		return NULL;
	name += sizeof verb - 1;
	name += strspn(name, blanks);
	end = name + strcspn(name, blanks);
	if (end[strspn(end, blanks)] != '\0')
		return NULL;
	*end = '\0';
	return is_service_name(name) ? name : NULL;
}

const char *request_add(struct request_reader *reader, char byte)
{
	const char *service = NULL;

	if (byte != '\n') {
		if (reader->length < CONTROL_BYTES - 1 && byte != '\0')
			reader->line[reader->length++] = byte;
		else
			reader->is_long = true;
		return NULL;
	}
	reader->line[reader->length] = '\0';
	if (reader->length && !reader->is_long)
		service = service_of(reader->line);
	if ((reader->length || reader->is_long) && service == NULL)
		reader->has_ignored = true;
	reader->length = 0;
	reader->is_long = false;
	return service;
}

bool open_control(const char *folder)
{
	struct control *control;
	char *at = format(STATE "/control/%s", folder), *pipe = format("%s/control", at);
	mode_t mask = umask(0);
	bool is_made = false;

	umask(mask);
	if (make_folders(at)) {
		umask(0);
		is_made = mkfifo(pipe, 0666) == 0;
		umask(mask);
	}
	if (is_made) {
		control = allocate(NULL, sizeof *control);
		*control = (struct control){ .next = controls, .name = format("%s", strchr(folder, '/') + 1) };
		control->file = open(pipe, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		controls = control;
		is_made = control->file >= 0;
	}
	free(at);
	free(pipe);
	return is_made;
}

size_t control_count(void)
{
	size_t count = 0;

	for (struct control *control = controls; control; control = control->next)
		count++;
	return count;
}

size_t control_poll(struct pollfd *files, int64_t *until_ms)
{
	int64_t now = now_ms();
	size_t count = 0;

	for (struct control *control = controls; control; control = control->next) {
		if (control->paused_ms <= now)
			files[count++] = (struct pollfd){ .fd = control->file, .events = POLLIN };
		else if (control->paused_ms < *until_ms)
			*until_ms = control->paused_ms;
	}
	return count;
}

static void read_more(struct control *control)
{
	ssize_t count;

	if (control->start < control->end)
		return;
	count = read(control->file, control->data, sizeof control->data);
	control->start = 0;
	control->end = count > 0 ? (size_t)count : 0;
}

/* Look at what was read, up to the first request. */
static void take_next(struct control *control, void (*take)(const char *service))
{
	const char *service = NULL;

	while (service == NULL && control->start < control->end)
		service = request_add(&control->reader, control->data[control->start++]);
	control->paused_ms = now_ms() + (service ? REQUEST_MS : READ_MS);
	if (service)
		take(service);
	if (!control->reader.has_ignored || control->is_noted)
		return;
	control->is_noted = true;
	say_note("ignored input of %s on /run/bootmatrix/control: not a request", control->name);
}

void control_step(void (*take)(const char *service))
{
	int64_t now = now_ms();

	for (struct control *control = controls; control; control = control->next) {
		if (control->paused_ms > now)
			continue;
		read_more(control);
		if (control->start < control->end)
			take_next(control, take);
	}
}
