#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "agent_console.h"
#include "channel.h"
#include "host.h"
#include "report.h"
#include "settings.h"
#include "util.h"

enum { INIT_SOCKET = 3, PORT = 4, PORT_S = 20, WINDOW = 1 << 20, CONSOLE_WINDOW = 8 << 10, REPEAT_MS = 1500 };

static unsigned starts;
static int held_port = -1;

/* Give up all that is init's: its secret, its files, its signals. */
static void leave_init(void)
{
	sigset_t none;

	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	forget_nonce();
	syscall(SYS_close_range, PORT + 1, ~0U, 0);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	mlockall(MCL_CURRENT | MCL_FUTURE);
}

static int serve_port(uint8_t token[SHA256_BYTES])
{
	if (held_port < 0 || (held_port != PORT && dup3(held_port, PORT, O_CLOEXEC) < 0))
		return 1;
	leave_init();
	return agent_serve(PORT, PORT, WINDOW, token);
}

/* The agent proper, beside the process that moves its bytes; they end with each other. */
static _Noreturn void serve_socket(int ends[2], uint8_t *key, uint8_t token[SHA256_BYTES])
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	explicit_bzero(key, SHA256_BYTES);
	close(ends[0]);
	mlockall(MCL_CURRENT | MCL_FUTURE);
	_exit(agent_serve(ends[1], ends[1], CONSOLE_WINDOW, token));
}

static int status_of(pid_t agent)
{
	int status;

	if (waitpid(agent, &status, 0) != agent || !WIFEXITED(status))
		return 1;
	return WEXITSTATUS(status);
}

/* Each start has a key of its own, by which the host knows that lines are numbered anew. */
static int serve_console(uint8_t token[SHA256_BYTES])
{
	uint8_t key[SHA256_BYTES];
	char label[32];
	int ends[2], console;
	pid_t agent;

	snprintf(label, sizeof label, "agent %u", starts);
	derive_key(label, key);
	close(PORT);
	leave_init();
	signal(SIGPIPE, SIG_IGN);
	console = open("/dev/console", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (console < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		return 1;
	agent = fork();
	if (agent == 0) {
		close(console);
		serve_socket(ends, key, token);
	}
	explicit_bzero(token, SHA256_BYTES);
	close(ends[1]);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	if (agent > 0)
		console_relay(console, ends[0], key, REPEAT_MS * settings.scale);
	close(ends[0]);
	return agent > 0 ? status_of(agent) : 1;
}

void agent_hold_port(void)
{
	int port;

	if (!*settings.agent || settings.is_console)
		return;
	port = open_port(AGENT_PORT, now_ms() + PORT_S * settings.scale * 1000);
	held_port = fcntl(port, F_DUPFD_CLOEXEC, PORT + 1); /* out of the way of the two */
	close(port);
}

pid_t agent_start(void)
{
	int init = host_open();
	uint8_t token[SHA256_BYTES];
	pid_t pid;

	starts++;
	pid = fork();
	if (pid == 0) {
		derive_key("agent", token);
		if (init >= 0 && (init == INIT_SOCKET || dup3(init, INIT_SOCKET, O_CLOEXEC) >= 0))
			agent_use_init(INIT_SOCKET);
		else
			close(INIT_SOCKET);
		_exit(settings.is_console ? serve_console(token) : serve_port(token));
	}
	if (init >= 0)
		close(init);
	return pid;
}
