/* Lines of TAP (testanything.org) and KTAP in a container's output. */
#ifndef BOOTMATRIX_TAP_H
#define BOOTMATRIX_TAP_H

#include <stdbool.h>
#include <stddef.h>

struct tap {
	char *text;
	size_t size, lines;
	bool is_full;
};

/* Whether a line is a plan, a version, a result or a bail-out, perhaps indented, commented or coloured. */
bool is_tap_line(const char *line, size_t size);

/* Whether a line begins or ends the YAML block of a result. */
bool is_yaml_mark(const char *line, size_t size);

/* Keep a line if it is one of TAP. */
void tap_add(struct tap *tap, const char *line, size_t size);

#endif
