#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "bundle.h"
#include "channel.h"
#include "console.h"
#include "copy.h"
#include "kernel_log.h"
#include "leave.h"
#include "loop.h"
#include "modules.h"
#include "mounts.h"
#include "netlink.h"
#include "pid1.h"
#include "report.h"
#include "roots.h"
#include "runtime.h"
#include "services.h"
#include "settings.h"
#include "util.h"
#include "world.h"

enum { PORT_S = 20, NONCE_S = 30, AUTO_NONCE_S = 5 };

static char born[32], console_level[16];

static _Noreturn void end(void)
{
	console_drain();
	leave(settings.leave, !is_failed());
}

/* No container can read init's memory, and no lack of memory pages it out. */
static void protect(void)
{
	prctl(PR_SET_DUMPABLE, 0);
	mlockall(MCL_CURRENT);
	signal(SIGPIPE, SIG_IGN);
	umask(022);
}

/* Read a word of a file in /proc. */
static void read_word(const char *path, char *word, size_t size)
{
	if (!read_line(path, word, size))
		snprintf(word, size, "0");
	word[strcspn(word, " \t")] = '\0';
}

static void start_machine(void)
{
	bool is_contained = getenv(SETTINGS_VARIABLE) != NULL;

	if (!is_contained)
		move_root();
	mount_root_systems(is_contained);
	console_open();
	protect();
	read_word("/proc/uptime", born, sizeof born);
	read_settings();
	read_word("/proc/sys/kernel/printk", console_level, sizeof console_level);
	if (!is_contained)
		load_modules("/etc/bootmatrix/modules");
	link_up("lo");
	sethostname("bootmatrix", 10);
}

/* A guest on a disk uses the port if the host has one, else it reports to the console only. */
static void choose_mode(void)
{
	int port;

	if (settings.mode != MODE_AUTO)
		return;
	settings.mode = MODE_MANUAL;
	if (settings.is_console)
		return;
	port = open_port(RESULT_PORT, now_ms() + settings.scale * 1000);
	if (port < 0)
		return;
	report_to(port);
	settings.mode = MODE_CELL;
	settings.is_auto = true;
}

static void open_channel(void)
{
	if ((settings.mode != MODE_CELL && settings.mode != MODE_TEMPLATE) || report_file() >= 0)
		return;
	if (settings.is_console) {
		console_stop_echo();
		report_to(console_file());
		return;
	}
	report_to(open_port(RESULT_PORT, now_ms() + PORT_S * settings.scale * 1000));
	if (report_file() >= 0)
		return;
	console_print("no result port");
	end();
}

static void greet(void)
{
	if (settings.mode != MODE_CELL || shake_hands(settings.is_auto ? AUTO_NONCE_S : NONCE_S))
		return;
	console_print("the host does not answer");
	if (!settings.is_auto)
		end();
	settings.mode = MODE_MANUAL;
}

static void say_ready(void)
{
	char release[128], now[32];

	read_word("/proc/sys/kernel/osrelease", release, sizeof release);
	say("ready %s", release);
	read_word("/proc/uptime", now, sizeof now);
	say("uptime %s %s", born, now);
}

static void run_spec(void)
{
	bool serves = strcmp(settings.agent, "serve") == 0, is_started;

	agent_hold_port();
	if (!find_runtime() && !serves) {
		say_unable("no init image has crun or runc");
	} else if (is_runtime_outlived() && !serves) {
		say_unable("the OCI runtime has 32-bit time, and cannot start containers after 2038-01-19");
	} else if (share_pids() && mount_roots() && mount_scratch() && make_view() && set_up_volumes()) {
		is_started = run_section("onboot");
		if (is_started && serves)
			serve_host();
		else if (is_started)
			run_services();
		if (is_failed() && strcmp(settings.agent, "hold") == 0)
			hold();
		if (is_started)
			stop_services();
		if (settings.mode == MODE_CELL)
			collect();
	}
	run_section("onshutdown");
}

/* A shell of an init image on the console, in a session of its own. */
static void run_shell(void)
{
	static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", home[] = "HOME=/", term[] = "TERM=linux";
	static char shell[] = "sh", *const argv[] = { shell, NULL }, *const environment[] = { path, home, term, NULL };
	sigset_t none;
	pid_t child;

	console_drain();
	child = fork();
	if (child == 0) {
		forget_nonce();
		setsid();
		ioctl(0, TIOCSCTTY, 0);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGPIPE, SIG_DFL);
		execve("/bin/sh", argv, environment);
		execve("/usr/lib/bootmatrix/busybox", argv, environment);
		dprintf(2, "bootmatrix: cannot start /bin/sh: %s. Add an image with a shell to 'init'.\n", strerror(errno));
		_exit(127);
	}
	while (child > 0 && waitpid(-1, NULL, 0) != child)
		;
}

_Noreturn void init(void)
{
	start_machine();
	leave_pid1();
	choose_mode();
	open_channel();
	open_loop();
	if (settings.mode == MODE_TEMPLATE) {
		if (!become_copy(report_file()))
			end();
		settings.mode = MODE_CELL;
		snprintf(born, sizeof born, "-"); /* that of the template */
	}
	greet();
	say_ready();
	run_spec();
	say_kernel(console_level);
	say_end();
	if (settings.mode == MODE_SHELL)
		run_shell();
	end();
}
