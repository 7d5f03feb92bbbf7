/* Settings on the kernel's command line: docs/guest-protocol.md. */
#ifndef BOOTMATRIX_SETTINGS_H
#define BOOTMATRIX_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

enum mode { MODE_CELL, MODE_MANUAL, MODE_AUTO, MODE_TEMPLATE, MODE_SHELL, MODE_AGENT };

/* An engine's image has this variable, with settings as on a command line. That of the kernel is the host's there. */
#define SETTINGS_VARIABLE "BOOTMATRIX"

struct settings {
	enum mode mode;
	bool is_console; /* the console is the result channel, not a port */
	bool is_auto;    /* the mode was chosen by whether a host answers */
	int64_t scale;   /* multiplies all time limits */
	char leave[16];  /* way to leave QEMU */
	char agent[16];  /* when there is an agent: serve, hold, collect; empty: never */
	bool has_scratch; /* a disk takes what containers write */
};

extern struct settings settings;

/* Read a command line; unknown words and invalid values are ignored. The text is changed. */
void parse_settings(struct settings *values, char *cmdline);

/* Read SETTINGS_VARIABLE, or else the kernel's command line. */
void read_settings(void);

#endif
