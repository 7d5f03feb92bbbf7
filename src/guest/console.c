#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum {
	BUFFER_BYTES = 64 << 10,
	FULL_BYTES = 16 << 10, /* above this, containers have to wait */
	RETRY_MS = 10,         /* some drivers do not wake who waits for room */
};

static char buffer[BUFFER_BYTES];
static size_t head, tail; /* pending data is between these */
static int console = -1;

void console_open(void)
{
	int standard = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (standard < 0)
		standard = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i <= 2; i++)
		if (i != standard)
			dup2(standard, i);
	if (standard > 2)
		close(standard);
	console = open("/dev/console", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (console < 0)
		console = open("/dev/null", O_RDWR | O_CLOEXEC);
}

void console_use(int file)
{
	console = file;
}

int console_file(void)
{
	return console;
}

void console_stop_echo(void)
{
	struct termios terminal;

	if (tcgetattr(console, &terminal) == 0) {
		terminal.c_lflag &= (tcflag_t)~ECHO;
		tcsetattr(console, TCSANOW, &terminal);
	}
}

bool console_is_pending(void)
{
	return head < tail;
}

bool console_has_room(void)
{
	return tail - head < FULL_BYTES;
}

void console_push(void)
{
	while (head < tail) {
		ssize_t done = write(console, buffer + head, tail - head);

		if (done > 0)
			head += (size_t)done;
		else if (done < 0 && errno != EINTR && errno != EAGAIN)
			head = tail; /* the terminal is gone */
		else if (done == 0 || errno == EAGAIN)
			break;
	}
	if (head == tail)
		head = tail = 0;
}

static void wait_for_console(void)
{
	struct pollfd room = { .fd = console, .events = POLLOUT };

	poll(&room, 1, RETRY_MS);
	console_push();
}

void console_write(const void *data, size_t size)
{
	const char *rest = data;

	while (size > 0) {
		size_t room = BUFFER_BYTES - tail, part = size < room ? size : room;

		memcpy(buffer + tail, rest, part);
		tail += part;
		rest += part;
		size -= part;
		if (size == 0)
			return;
		console_push();
		memmove(buffer, buffer + head, tail - head);
		tail -= head;
		head = 0;
		if (tail == BUFFER_BYTES)
			wait_for_console();
	}
}

void console_print(const char *text, ...)
{
	char line[1024] = "bootmatrix: ";
	size_t start = strlen(line);
	va_list words;
	int size;

	va_start(words, text);
	size = vsnprintf(line + start, sizeof line - start, text, words);
	va_end(words);
	if (size < 0)
		return;
	start += (size_t)size;
	if (start > sizeof line - 2)
		start = sizeof line - 2;
	line[start] = '\n';
	console_write(line, start + 1);
	console_push();
}

void console_drain(void)
{
	while (console_is_pending())
		wait_for_console();
	tcdrain(console);
}
