/* Roots of large images, on read-only disks of their own. */
#ifndef BOOTMATRIX_ROOTS_H
#define BOOTMATRIX_ROOTS_H

#include <stdbool.h>

/* Mount the roots that are on disks (/etc/bootmatrix/roots). Return whether this succeeded; a failure is reported. */
bool mount_roots(void);

/* Show these roots in the containers' view of the guest's root, below `view`, with overlays in `folder`. */
bool overlay_roots(const char *view, const char *folder);

#endif
