/* Paths below a root that others may change. Links are followed by their text, also those of /proc that the kernel
 * follows otherwise, and none leads out of the root; nor does `..`. Works on every kernel, and without races. */
#ifndef BOOTMATRIX_WALK_H
#define BOOTMATRIX_WALK_H

#include <stdbool.h>

/* Open what is at a path with O_PATH; if `is_made`, make folders that are missing. Return -1 with errno on failure. */
int walk(int root, const char *path, bool is_made);

#endif
