/* Roots of large images, on read-only disks of their own. */
#ifndef BOOTMATRIX_ROOTS_H
#define BOOTMATRIX_ROOTS_H

#include <stdbool.h>

#include "util.h"

#define SCRATCH STATE "/scratch"

/* Mount the roots that are on disks (/etc/bootmatrix/roots). Return whether this succeeded; a failure is reported. */
bool mount_roots(void);

/* Mount the disk that takes what containers write, if there is one. Return whether this succeeded. */
bool mount_scratch(void);

/* Show these roots in the containers' view of the guest's root, below `view`, with overlays in `folder`. */
bool overlay_roots(const char *view, const char *folder);

#endif
