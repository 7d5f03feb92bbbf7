#include "agent_console.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base64.h"
#include "util.h"

#define WORD "bootmatrix-agent "

enum {
	LINE_BYTES = 480, /* of data in a line */
	WINDOW = 4,       /* lines that are not acknowledged */
	TEXT_BYTES = (LINE_BYTES + 2) / 3 * 4,
	LONGEST = TEXT_BYTES + 64,
	MAC_DIGITS = 16,
};

/* Numbers of lines begin with 1; a line without data has 0, and only acknowledges. */
static struct {
	const uint8_t *key;
	int console, agent;
	uint8_t sent[WINDOW][LINE_BYTES]; /* by number, modulo WINDOW */
	size_t sizes[WINDOW];
	uint32_t next, acknowledged, taken;
	int64_t sent_ms;
	uint8_t waiting[LINE_BYTES]; /* the host's data for which the agent has had no room */
	size_t waiting_start, waiting_end;
	char line[LONGEST];
	size_t length;
	bool is_too_long, is_closed;
} lines;

static void sign(char side, const char *text, char mac[MAC_DIGITS + 1])
{
	struct hmac_sha256 hash;
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX];

	hmac_sha256_init(&hash, lines.key, SHA256_BYTES);
	hmac_sha256_update(&hash, &side, 1);
	hmac_sha256_update(&hash, text, strlen(text));
	hmac_sha256_final(&hash, digest);
	sha256_hex(digest, hex);
	memcpy(mac, hex, MAC_DIGITS);
	mac[MAC_DIGITS] = '\0';
}

/* It begins with a line end, as the console may be in the middle of another line. */
static void write_line(uint32_t number, const uint8_t *data, size_t size)
{
	char text[LONGEST], line[LONGEST + 64], mac[MAC_DIGITS + 1];
	int length = snprintf(text, sizeof(text), "%u %u ", number, lines.taken);

	length += (int)base64_encode(data, size, text + length);
	text[length] = '\0';
	sign('g', text, mac);
	length = snprintf(line, sizeof(line), "\n" WORD "%s %s\n", mac, text);
	if (!write_all(lines.console, line, (size_t)length))
		lines.is_closed = true;
}

static void write_numbered(uint32_t number)
{
	write_line(number, lines.sent[number % WINDOW], lines.sizes[number % WINDOW]);
	lines.sent_ms = now_ms();
}

/* Take what the agent has written, a line of it. */
static void read_agent(void)
{
	uint32_t number = lines.next + 1;
	ssize_t size = read(lines.agent, lines.sent[number % WINDOW], LINE_BYTES);

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size <= 0) {
		lines.is_closed = true;
		return;
	}
	lines.sizes[number % WINDOW] = (size_t)size;
	lines.next = number;
	write_numbered(number);
}

static void give_waiting(void)
{
	while (lines.waiting_start < lines.waiting_end) {
		ssize_t size = write(lines.agent, lines.waiting + lines.waiting_start, lines.waiting_end - lines.waiting_start);

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0) {
			lines.is_closed = lines.is_closed || errno != EAGAIN;
			return;
		}
		lines.waiting_start += (size_t)size;
	}
	lines.waiting_start = lines.waiting_end = 0;
}

/* A word up to a blank, as a number of at most ten digits. */
static bool take_number(char **rest, uint32_t *number)
{
	char *word = next_word(rest, ' ');
	int64_t value;

	if (!word || !parse_number(word, &value) || value > UINT32_MAX)
		return false;
	*number = (uint32_t)value;
	return true;
}

/* Data out of order, and data for which there is no room, come again: they are not acknowledged. */
static void take_data(uint32_t number, const char *text)
{
	uint8_t data[LINE_BYTES];
	size_t length = strlen(text);
	ssize_t size = length <= TEXT_BYTES ? base64_decode(text, length, data) : -1;

	if (size < 0)
		return;
	if (number == lines.taken + 1 && lines.waiting_start == lines.waiting_end) {
		lines.taken = number;
		memcpy(lines.waiting, data, (size_t)size);
		lines.waiting_start = 0;
		lines.waiting_end = (size_t)size;
		give_waiting();
	}
	write_line(0, NULL, 0);
}

static void take_line(char *line)
{
	char *at = strstr(line, WORD), *rest, *text, mac[MAC_DIGITS + 1];
	uint32_t number, acknowledged;

	if (!at || strlen(at) < sizeof(WORD) + MAC_DIGITS)
		return;
	at += sizeof(WORD) - 1;
	text = rest = at + MAC_DIGITS + 1;
	sign('h', text, mac);
	if (at[MAC_DIGITS] != ' ' || memcmp(at, mac, MAC_DIGITS) != 0)
		return;
	if (!take_number(&rest, &number) || !take_number(&rest, &acknowledged))
		return;
	if (acknowledged > lines.acknowledged && acknowledged <= lines.next)
		lines.acknowledged = acknowledged;
	if (number)
		take_data(number, rest ? rest : "");
}

static void take_byte(char byte)
{
	if (byte == '\r')
		return;
	if (byte != '\n') {
		if (lines.length + 1 < sizeof(lines.line))
			lines.line[lines.length++] = byte;
		else
			lines.is_too_long = true;
		return;
	}
	lines.line[lines.length] = '\0';
	if (lines.length && !lines.is_too_long)
		take_line(lines.line);
	lines.length = 0;
	lines.is_too_long = false;
}

static void read_console(void)
{
	char bytes[4096];
	ssize_t size = read(lines.console, bytes, sizeof(bytes));

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	lines.is_closed = lines.is_closed || size < 0;
	for (ssize_t i = 0; i < size; i++)
		take_byte(bytes[i]);
}

static void repeat(int64_t repeat_ms)
{
	if (lines.acknowledged == lines.next || now_ms() < lines.sent_ms + repeat_ms)
		return;
	for (uint32_t number = lines.acknowledged + 1; number <= lines.next; number++)
		write_numbered(number);
}

static void relay_once(int64_t repeat_ms)
{
	bool is_idle = lines.acknowledged == lines.next, is_full = lines.next - lines.acknowledged >= WINDOW;
	bool is_waiting = lines.waiting_start < lines.waiting_end;
	struct pollfd files[2] = {
		{.fd = lines.console, .events = POLLIN},
		{.fd = lines.agent, .events = (short)((is_full ? 0 : POLLIN) | (is_waiting ? POLLOUT : 0))},
	};

	poll(files, 2, wait_ms(is_idle ? NEVER : lines.sent_ms + repeat_ms));
	if (files[0].revents)
		read_console();
	if (files[1].revents & POLLOUT)
		give_waiting();
	if (files[1].revents & ~POLLOUT && (!is_full || !(files[1].revents & POLLIN)))
		read_agent();
	repeat(repeat_ms);
}

void console_relay(int console, int agent, const uint8_t key[SHA256_BYTES], int64_t repeat_ms)
{
	memset(&lines, 0, sizeof(lines));
	lines.key = key;
	lines.console = console;
	lines.agent = agent;
	while (!lines.is_closed)
		relay_once(repeat_ms);
}
