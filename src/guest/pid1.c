#include "pid1.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "leave.h"
#include "settings.h"
#include "util.h"

#define SERVICE "/etc/bootmatrix/pid1" /* the folder of its bundle, its program and arguments, separated by tabs */

enum { ARGUMENTS = 64 };

static int first = -1; /* a pipe to the first process */

/* Make the bundle's root the only one, in a mount namespace of its own: init's files are in another. */
static bool enter(const char *root)
{
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount(root, root, NULL, MS_BIND | MS_REC, NULL) == 0 && chdir(root) == 0 &&
	       syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 && chdir("/") == 0;
}

static void become_service(void)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", term[] = "TERM=linux";
	static char *const environment[] = { path, term, NULL };
	char *text = read_all(SERVICE), *rest = text, *words[ARGUMENTS + 1] = { NULL }, *root;
	sigset_t none;

	if (text == NULL)
		return;
	text[strcspn(text, "\n")] = '\0';
	root = format("/containers/%s/rootfs", next_word(&rest, '\t'));
	for (int i = 0; i < ARGUMENTS && (words[i] = next_word(&rest, '\t')) != NULL; i++)
		;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	munlockall();
	if (words[0] && enter(root))
		execve(words[0], words, environment);
	dprintf(2, "bootmatrix: cannot start %s as the first process: %s\n", words[0] ? words[0] : "", strerror(errno));
}

/* Wait until the service is to be started. If init ends before, so does the guest. */
static _Noreturn void wait_as_first(int told)
{
	char byte;

	signal(SIGCHLD, SIG_IGN);
	while (read(told, &byte, 1) < 0 && errno == EINTR)
		;
	become_service();
	leave(settings.leave, 0);
}

/* The child is not to be killed for lack of memory; and orphans of what it starts are its own. */
static void protect_child(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	mlockall(MCL_CURRENT);
	write_text("/proc/self/oom_score_adj", "-1000");
}

void leave_pid1(void)
{
	int ends[2];
	pid_t child;

	if (access(SERVICE, F_OK) != 0 || pipe2(ends, O_CLOEXEC) != 0)
		return;
	child = fork();
	if (child > 0) {
		close(ends[1]);
		wait_as_first(ends[0]);
	}
	close(ends[0]);
	first = ends[1];
	if (child == 0)
		protect_child();
}

bool is_pid1(const char *name)
{
	char line[512], *rest = line, *folder;

	if (first < 0 || !read_line(SERVICE, line, sizeof line))
		return false;
	folder = next_word(&rest, '\t');
	return strncmp(folder, "services/", 9) == 0 && strcmp(folder + 9, name) == 0;
}

bool start_pid1(void)
{
	return write(first, "", 1) == 1;
}
