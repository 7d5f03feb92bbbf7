#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

struct settings settings = { .mode = MODE_CELL, .is_console = true, .scale = 1, .leave = "poweroff" };

enum { MAX_SCALE = 1000 };

static void set_mode(struct settings *values, const char *name)
{
	static const char *const names[] = { "cell", "manual", "auto", "template", "shell", "agent" };

	for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
		if (strcmp(name, names[i]) == 0)
			values->mode = (enum mode)i;
}

static void set_scale(struct settings *values, const char *text)
{
	int64_t number;

	if (parse_number(text, &number) && number > 0)
		values->scale = number < MAX_SCALE ? number : MAX_SCALE;
}

static void set(struct settings *values, const char *key, const char *value)
{
	if (strcmp(key, "channel") == 0)
		values->is_console = strcmp(value, "console") == 0;
	else if (strcmp(key, "scale") == 0)
		set_scale(values, value);
	else if (strcmp(key, "exit") == 0)
		snprintf(values->leave, sizeof values->leave, "%s", value);
	else if (strcmp(key, "agent") == 0)
		snprintf(values->agent, sizeof values->agent, "%s", value);
	else if (strcmp(key, "scratch") == 0)
		values->has_scratch = true;
	else if (strcmp(key, "mode") == 0)
		set_mode(values, value);
}

void parse_settings(struct settings *values, char *cmdline)
{
	static const char prefix[] = "bootmatrix.";
	char *word, *rest = cmdline;

	cmdline[strcspn(cmdline, "\n")] = '\0';
	while ((word = next_word(&rest, ' ')) != NULL) {
		char *value = strchr(word, '=');

		if (value == NULL || strncmp(word, prefix, sizeof prefix - 1) != 0)
			continue;
		*value = '\0';
		set(values, word + sizeof prefix - 1, value + 1);
	}
}

void read_settings(void)
{
	char cmdline[8192], *words = getenv(SETTINGS_VARIABLE);

	if (words)
		parse_settings(&settings, words);
	else if (read_text("/proc/cmdline", cmdline, sizeof cmdline) > 0)
		parse_settings(&settings, cmdline);
}
