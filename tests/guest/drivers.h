#ifndef BOOTMATRIX_DRIVERS_H
#define BOOTMATRIX_DRIVERS_H

#include <stddef.h>
#include <stdint.h>

struct target {
	const char *name;
	void (*read)(const uint8_t *data, size_t size);
};

/* Find a reader, or exit with status 2. */
const struct target *find_target(const char *name);

int units_main(int argc, char **argv);
int mutate_main(int argc, char **argv);

#endif
