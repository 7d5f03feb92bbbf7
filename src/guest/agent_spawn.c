#include "agent_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent_builtins.h"
#include "agent_keeper.h"

/* Capabilities that containers have by default (capabilities(7)), by number. */
static const unsigned char CAPABILITIES[] = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31};

extern char **environ;

struct fault {
	int error;
	const char *step;
};

static bool is_default(unsigned capability)
{
	return memchr(CAPABILITIES, (int)capability, sizeof(CAPABILITIES));
}

static void drop_capabilities(void)
{
	for (unsigned number = 0; prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; number++)
		if (!is_default(number))
			prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
}

static void set_oom_score(const char *score)
{
	int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (file < 0)
		return;
	if (write(file, score, strlen(score)) < 0)
		errno = 0; /* it is only likelier to be killed */
	close(file);
}

static const char *take_streams(const struct request *request, const int fds[3])
{
	int high[3];

	setsid();
	if (request->tty && ioctl(fds[0], TIOCSCTTY, 0))
		return "take the terminal";
	for (int i = 0; i < 3; i++) /* none of them may be one of 0 to 2 while these are set */
		if ((high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3)) < 0)
			return "take the streams";
	for (int i = 0; i < 3; i++)
		if (dup2(high[i], i) < 0)
			return "take the streams";
	return NULL;
}

static void reset_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static const char *change_user(const struct request *request)
{
	if (!request->privileged)
		drop_capabilities();
	if ((request->uid || request->gid) && setgroups(0, NULL))
		return "drop groups";
	if (setgid(request->gid))
		return "set the group";
	return setuid(request->uid) ? "set the user" : NULL;
}

static void run(const struct request *request, const int fds[3], int report)
{
	struct fault fault;

	reset_signals();
	set_oom_score("0");
	if ((fault.step = take_streams(request, fds)))
		goto failed;
	if (request->verb != VERB_EXEC) {
		close(report);
		close(KEEPER_SOCKET);
		_exit(builtin_main(request->verb, request->words));
	}
	if ((fault.step = change_user(request)))
		goto failed;
	fault.step = "change to the folder";
	if (*request->cwd && chdir(request->cwd))
		goto failed;
	environ = request->env;
	fault.step = "run";
	execvp(request->words[0], request->words);
failed:
	fault.error = errno;
	if (write(report, &fault, sizeof(fault)) < 0)
		_exit(126);
	_exit(127);
}

pid_t spawn(const struct request *request, const int fds[3], const char **step)
{
	struct fault fault;
	int report[2];
	ssize_t size;
	pid_t pid;

	*step = "start a process";
	if (pipe2(report, O_CLOEXEC))
		return -1;
	pid = fork();
	if (pid == 0)
		run(request, fds, report[1]);
	close(report[1]);
	if (pid < 0) {
		close(report[0]);
		return -1;
	}
	do
		size = read(report[0], &fault, sizeof(fault));
	while (size < 0 && errno == EINTR);
	close(report[0]);
	if (size != (ssize_t)sizeof(fault))
		return pid;
	*step = fault.step; /* a constant: of the same program at the same place */
	errno = fault.error;
	return -1;
}
