/* A port of loopback whose requests the host answers: one connection after the other, each for one request. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent_builtins.h"
#include "frames.h"
#include "util.h"

enum { HEAD_BYTES = 8 << 10, BACKLOG = 64, CLIENT_MS = 30000, LINGER_MS = 2000 };

static int listen_on(const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int end = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	address.sin_port = htons((uint16_t)atoi(port));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (end < 0 || setsockopt(end, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(end, (struct sockaddr *)&address, sizeof(address)) || listen(end, BACKLOG))
		return -1;
	return end;
}

static bool is_readable(int end, int64_t until_ms)
{
	struct pollfd polled = {end, POLLIN, 0};
	int64_t left_ms = until_ms - now_ms();

	return left_ms > 0 && poll(&polled, 1, (int)left_ms) > 0;
}

/* Read up to the empty line after the head; its length, 0 for none. What follows the head is not wanted. */
static size_t read_head(int client, char *head)
{
	int64_t until_ms = now_ms() + CLIENT_MS;
	size_t used = 0;

	while (used < HEAD_BYTES && is_readable(client, until_ms)) {
		ssize_t count = read(client, head + used, HEAD_BYTES - used);
		char *end;

		if (count <= 0)
			return 0;
		used += (size_t)count;
		if ((end = memmem(head, used, "\r\n\r\n", 4)))
			return (size_t)(end - head) + 4;
	}
	return 0;
}

/* Pass on the host's answer; all of it is read, also if the client has gone. */
static bool pass_answer(int client)
{
	static char buffer[64 << 10];
	uint8_t size[8];
	uint64_t left;
	bool is_there = true;

	if (!read_exactly(0, size, sizeof(size)))
		return false;
	left = (uint64_t)get32(size) << 32 | get32(size + 4);
	while (left) {
		size_t part = left < sizeof(buffer) ? (size_t)left : sizeof(buffer);
		ssize_t count = read(0, buffer, part);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return false;
		left -= (uint64_t)count;
		is_there = is_there && write_all(client, buffer, (size_t)count);
	}
	return true;
}

/* A client that has more to say would lose the answer by a reset. */
static void linger(int client)
{
	char rest[4096];
	int64_t until_ms = now_ms() + LINGER_MS;

	shutdown(client, SHUT_WR);
	while (is_readable(client, until_ms) && read(client, rest, sizeof(rest)) > 0)
		;
}

static bool answer(int client)
{
	static char head[HEAD_BYTES];
	struct timeval limit = {CLIENT_MS / 1000, 0};
	size_t length = read_head(client, head);
	uint8_t size[4];

	setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (!length)
		return true;
	put32(size, (uint32_t)length);
	if (!write_all(1, size, sizeof(size)) || !write_all(1, head, length) || !pass_answer(client))
		return false;
	linger(client);
	return true;
}

int serve_main(char **words)
{
	int end;

	if (!words[0])
		return 2;
	signal(SIGPIPE, SIG_IGN);
	end = listen_on(words[0]);
	if (end < 0)
		return complain("listen", words[0]);
	if (!write_all(1, "+", 1))
		return 1;
	for (;;) {
		int client = accept4(end, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0)
			continue;
		if (!answer(client))
			return 1;
		close(client);
	}
}
