#include "agent_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent_request.h"
#include "agent_spawn.h"

static struct {
	uint32_t id;
	pid_t pid; /* also of its process group */
} commands[KEEPER_COMMANDS];

static void reply(uint32_t id, int kind, int status, const char *text, int fd)
{
	struct keeper_reply message;

	memset(&message, 0, sizeof(message));
	message.id = id;
	message.kind = kind;
	message.status = status;
	snprintf(message.text, sizeof(message.text), "%s", text);
	if (send_message(KEEPER_SOCKET, &message, sizeof(message), NULL, 0, &fd, fd >= 0))
		_exit(1);
}

/* Open a terminal; its two ends. */
static int open_terminal(const struct request *request, int *master)
{
	struct winsize size = {request->rows, request->columns, 0, 0};
	int unlock = 0, slave = -1;

	*master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*master < 0)
		return -1;
	if (!ioctl(*master, TIOCSPTLCK, &unlock) && !ioctl(*master, TIOCSWINSZ, &size))
		slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		close(*master);
	else if (request->uid && fchown(slave, request->uid, (gid_t)-1))
		errno = 0; /* programs then cannot open /dev/tty by name */
	return slave;
}

static int slot_of(pid_t pid)
{
	for (int i = 0; i < KEEPER_COMMANDS; i++)
		if (commands[i].pid == pid)
			return i;
	return -1;
}

static void run(uint32_t id, struct request *request, int fds[3])
{
	int slot = slot_of(0), master = -1;
	const char *step = "open a terminal";
	pid_t pid = -1;

	errno = EAGAIN;
	if (request->tty)
		fds[0] = fds[1] = fds[2] = open_terminal(request, &master);
	if (slot < 0)
		step = "run more commands";
	else if (fds[0] >= 0)
		pid = spawn(request, fds, &step);
	if (pid < 0) {
		reply(id, REPLY_FAULT, errno, step, -1);
	} else {
		commands[slot].id = id;
		commands[slot].pid = pid;
		reply(id, REPLY_STARTED, 0, "", master);
	}
	if (master >= 0)
		close(master);
}

static void send_signal(uint32_t id, uint32_t number)
{
	for (int i = 0; i < KEEPER_COMMANDS; i++)
		if (commands[i].pid && commands[i].id == id && number < NSIG)
			kill(-commands[i].pid, (int)number);
}

static bool handle_message(void)
{
	static _Alignas(8) char message[sizeof(struct keeper_ask) + REQUEST_BYTES];
	static struct request request;
	struct keeper_ask ask;
	int fds[3];
	long size = receive_message(KEEPER_SOCKET, message, sizeof(message), fds);

	if (size < (long)sizeof(ask))
		return false;
	memcpy(&ask, message, sizeof(ask));
	if (ask.kind == ASK_SIGNAL) {
		send_signal(ask.id, ask.signal);
	} else if (request_parse(&request, message + sizeof(ask), (size_t)size - sizeof(ask))) {
		reply(ask.id, REPLY_FAULT, EINVAL, "read the request", -1);
	} else {
		run(ask.id, &request, fds);
	}
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0 && (i == 0 || fds[i] != fds[0]))
			close(fds[i]);
	return true;
}

static void reap(void)
{
	int status, slot;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if ((slot = slot_of(pid)) >= 0) {
			commands[slot].pid = 0;
			reply(commands[slot].id, REPLY_ENDED, status, "", -1);
		}
}

static int watch_children(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

int keeper_main(int argc, char **argv)
{
	struct pollfd polled[2] = {{KEEPER_SOCKET, POLLIN, 0}, {watch_children(), POLLIN, 0}};
	const char *fault;
	bool privileged = argc == 3 && !strcmp(argv[2], "privileged");

	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	fcntl(KEEPER_SOCKET, F_SETFD, FD_CLOEXEC);
	if (argc != 3 || polled[1].fd < 0)
		return 2;
	fault = enter_root(argv[1], privileged);
	if (fault) {
		reply(0, REPLY_FAULT, errno, fault, -1);
		return 1;
	}
	reply(0, REPLY_READY, 0, "", -1);
	while (poll(polled, 2, -1) >= 0 || errno == EINTR) {
		struct signalfd_siginfo info;

		if (polled[1].revents & POLLIN && read(polled[1].fd, &info, sizeof(info)) > 0)
			reap();
		if (polled[0].revents && !handle_message())
			return 0; /* the agent is gone, and with this process all commands go */
		polled[0].revents = polled[1].revents = 0;
	}
	return 1;
}

static _Noreturn void become_keeper(int socket, const char *root, bool privileged)
{
	char *words[] = {(char *)(uintptr_t)KEEPER_NAME, (char *)(uintptr_t)root,
			 (char *)(uintptr_t)(privileged ? "privileged" : "default"), NULL};
	char *env[] = {NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t child;

	if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC))
		_exit(1);
	child = fork();
	if (child)
		_exit(child < 0);
	/* The agent's own streams may be the console, by which it talks to the host. */
	for (int i = 0; i < 3; i++)
		if (dup2(null, i) < 0)
			_exit(1);
	/* A new program image: nothing that the agent knows is in its memory. */
	if (dup2(socket, KEEPER_SOCKET) != KEEPER_SOCKET)
		_exit(1);
	if (socket == KEEPER_SOCKET)
		fcntl(socket, F_SETFD, 0);
	syscall(SYS_close_range, KEEPER_SOCKET + 1, ~0U, 0);
	execve("/proc/self/exe", words, env);
	_exit(1);
}

int keeper_start(const char *root, bool privileged)
{
	int ends[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -1;
	child = fork();
	if (child == 0)
		become_keeper(ends[1], root, privileged);
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		return -1;
	}
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return ends[0];
}
