#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent_builtins.h"
#include "util.h"

static int open_socket(const void *address, socklen_t size, int family)
{
	int end = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (end >= 0 && connect(end, address, size)) {
		int error = errno;

		close(end);
		errno = error;
		return -1;
	}
	return end;
}

static int connect_tcp(const char *port)
{
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int end;

	four.sin_port = six.sin6_port = htons((uint16_t)atoi(port));
	four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	end = open_socket(&four, sizeof(four), AF_INET);
	if (end < 0 && errno == ECONNREFUSED) {
		end = open_socket(&six, sizeof(six), AF_INET6);
		if (end < 0)
			errno = ECONNREFUSED;
	}
	return end;
}

static int connect_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	return open_socket(&address, sizeof(address), AF_UNIX);
}

/* Pass on all that comes; at its end nothing more is sent to the other side. */
static void pass(int from, int to)
{
	static char buffer[64 << 10];
	ssize_t size;

	while ((size = read(from, buffer, sizeof(buffer))) > 0 || (size < 0 && errno == EINTR))
		if (size > 0 && !write_all(to, buffer, (size_t)size))
			return;
	shutdown(to, SHUT_WR);
}

/* A process for each direction: one that is full must not stop the other. */
static int pass_both(int end)
{
	pid_t other = fork();

	if (other < 0)
		return 1;
	if (other == 0) {
		pass(0, end);
		_exit(0);
	}
	close(0);
	pass(end, 1);
	kill(other, SIGKILL);
	return 0;
}

int connect_main(char **words)
{
	bool is_tcp = words[0] && !strcmp(words[0], "tcp");
	int end;

	if (!words[0] || !words[1])
		return 2;
	end = is_tcp ? connect_tcp(words[1]) : connect_unix(words[1]);
	if (end < 0)
		return complain("connect", words[1]);
	if (!write_all(1, "+", 1)) /* connected: the data follow */
		return 1;
	return pass_both(end);
}
