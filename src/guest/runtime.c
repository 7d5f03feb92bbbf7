#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "console.h"
#include "mounts.h"
#include "report.h"
#include "util.h"

#define CONTAINERS STATE "/runtime"

static char runtime[64];

/* Of all programs that init starts; the last is for a protected crun. */
static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", home[] = "HOME=/", term[] = "TERM=linux";
static char *environment[] = { path, home, term, NULL, NULL };

bool is_crun(void)
{
	size_t size = strlen(runtime);

	return size > 5 && strcmp(runtime + size - 5, "/crun") == 0;
}

/* crun protects itself from being overwritten by a second start from a sealed copy. From a read-only mount it need not,
 * which saves a third of a small container's time. */
static bool protect_runtime(void)
{
	static char is_protected[] = "_LIBCONTAINER_CLONED_BINARY=1";

	if (!is_crun())
		return true;
	environment[3] = is_protected;
	return bind_at(runtime, runtime, false) &&
	       mount(NULL, runtime, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0;
}

bool find_runtime(void)
{
	static const char *const folders[] = { "/usr/sbin", "/usr/bin", "/sbin", "/bin" };
	static const char *const names[] = { "crun", "runc" };

	for (size_t i = 0; *runtime == '\0' && i < 8; i++) {
		snprintf(runtime, sizeof runtime, "%s/%s", folders[i % 4], names[i / 4]);
		if (access(runtime, X_OK) != 0 || !protect_runtime())
			*runtime = '\0';
	}
	return *runtime != '\0';
}

/* libc's calls with times of 64 bits have names of their own. By those with 32 bits no runtime starts a container from 2038
 * on: stat() of a new file fails. */
bool is_runtime_outlived(void)
{
	static const char libc[] = "GLIBC_2.", call[] = "_time64";
	int file = sizeof(long) > 4 || time(NULL) <= INT32_MAX ? -1 : open(runtime, O_RDONLY | O_CLOEXEC);
	off_t size = file < 0 ? 0 : lseek(file, 0, SEEK_END);
	void *data = size <= 0 ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, file, 0);
	bool is_outlived = data != MAP_FAILED && memmem(data, (size_t)size, libc, sizeof libc - 1) &&
	                   !memmem(data, (size_t)size, call, sizeof call - 1);

	if (data != MAP_FAILED)
		munmap(data, (size_t)size);
	if (file >= 0)
		close(file);
	return is_outlived;
}

/* In the child: the standard files, and nothing of init's. */
static _Noreturn void execute(char *const argv[], int output)
{
	sigset_t none;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	dup2(null, 0);
	dup2(output >= 0 ? output : null, 1);
	dup2(output >= 0 ? output : null, 2);
	execve(argv[0], argv, environment);
	dprintf(2, "bootmatrix: cannot start %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

pid_t start_program(char *const argv[], int *output)
{
	int ends[2] = { -1, -1 };
	pid_t child;

	if (output && pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	child = fork();
	if (child == 0)
		execute(argv, ends[1]);
	if (output == NULL)
		return child;
	close(ends[1]);
	*output = ends[0];
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	if (child < 0)
		close(ends[0]);
	return child;
}

static char *pid_file(const char *id)
{
	return format(STATE "/run/%s", id);
}

pid_t runtime_run(const char *bundle, const char *config, const char *id, int *output)
{
	char *file = pid_file(id);
	const char *argv[14] = { runtime, "--root", CONTAINERS, "run", "--pid-file", file, "--bundle", bundle };
	int count = 8;
	pid_t child;

	if (config) {
		argv[count++] = "--config";
		argv[count++] = config;
	}
	argv[count] = id;
	unlink(file);
	child = start_program((char *const *)argv, output);
	free(file);
	return child;
}

/* Flags of a process (proc_pid_stat(5), include/linux/sched.h) that ends: it may dump core first, which takes a while. */
enum { EXITING = 0x4, DUMPS_CORE = 0x200, SIGNALED = 0x400 };

/* Whether a process runs and is a child of the runtime, which has not waited for it. */
static bool is_child(pid_t pid, pid_t parent)
{
	char file[64], line[512], *end, state;
	unsigned flags;
	int above;

	snprintf(file, sizeof file, "/proc/%d/stat", (int)pid);
	if (!read_line(file, line, sizeof line) || (end = strrchr(line, ')')) == NULL)
		return false;
	return sscanf(end + 1, " %c %d %*d %*d %*d %*d %u", &state, &above, &flags) == 3 && above == parent &&
	       state != 'Z' && state != 'X' && !(flags & (EXITING | DUMPS_CORE | SIGNALED));
}

/* Signal a process by a descriptor, which no other process can take over. */
static bool signal_child(pid_t pid, pid_t parent, int signal)
{
	int process = (int)syscall(SYS_pidfd_open, pid, 0);
	bool is_sent;

	if (process < 0)
		return errno == ENOSYS && is_child(pid, parent) && kill(pid, signal) == 0;
	is_sent = is_child(pid, parent) && syscall(SYS_pidfd_send_signal, process, signal, NULL, 0) == 0;
	close(process);
	return is_sent;
}

bool runtime_kill(pid_t parent, const char *id, int signal)
{
	char *file = pid_file(id), line[32];
	int64_t pid;
	bool is_known = read_line(file, line, sizeof line) && parse_number(line, &pid) && pid > 1;

	free(file);
	return is_known && signal_child((pid_t)pid, parent, signal);
}

void runtime_delete(const char *id)
{
	char *folder = format(CONTAINERS "/%s", id);
	const char *argv[] = { runtime, "--root", CONTAINERS, "delete", "--force", id, NULL };
	bool is_left = access(folder, F_OK) == 0;
	pid_t child = is_left ? start_program((char *const *)argv, NULL) : -1;

	free(folder);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}
