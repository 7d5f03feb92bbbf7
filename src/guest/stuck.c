#include "stuck.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

enum { IS_KERNEL_THREAD = 0x00200000 }; /* PF_KTHREAD of the kernel's sched.h, in the flags of proc_pid_stat(5) */

/* The name of a process in parentheses, if it is in uninterruptible sleep. */
static char *stuck_name(char *line)
{
	char *name = strchr(line, '('), *end = strrchr(line, ')'), state;
	unsigned flags;

	if (name == NULL || end == NULL || sscanf(end + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
		return NULL;
	*end = '\0';
	return state == 'D' && !(flags & IS_KERNEL_THREAD) ? name + 1 : NULL;
}

static char *describe(const char *pid)
{
	char path[64], line[512], place[128] = "", *name;

	snprintf(path, sizeof path, "/proc/%.16s/stat", pid);
	if (!read_line(path, line, sizeof line) || (name = stuck_name(line)) == NULL)
		return NULL;
	snprintf(path, sizeof path, "/proc/%.16s/wchan", pid);
	read_line(path, place, sizeof place);
	if (*place == '\0' || strcmp(place, "0") == 0)
		return format("%s (%s)", name, pid);
	return format("%s (%s) in %s", name, pid, place);
}

char *stuck_process(void)
{
	char **names = list_folder("/proc"), *text = NULL;

	for (size_t i = 0; names[i] && text == NULL; i++)
		if (*names[i] >= '1' && *names[i] <= '9')
			text = describe(names[i]);
	free_list(names);
	return text ? text : format("%s", "");
}
