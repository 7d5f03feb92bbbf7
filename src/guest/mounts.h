/* File systems of the guest's root. */
#ifndef BOOTMATRIX_MOUNTS_H
#define BOOTMATRIX_MOUNTS_H

#include <stdbool.h>

/* Mount the root once more over itself: pivot_root(2) of containers refuses the kernel's first root. */
void move_root(void);

/* Mount what init and containers need, and make folders in it. In an engine's container /dev stays the engine's: the
 * kernel has one devtmpfs, which is the host's there. */
void mount_root_systems(bool is_contained);

/* Mount as mount(8) does. Type, source and options may be "-" (none). Return whether this succeeded. */
bool mount_at(const char *type, const char *source, const char *target, const char *options);

/* Bind a file or folder, and all mounts below it if `is_whole`. */
bool bind_at(const char *source, const char *target, bool is_whole);

/* Whether options, separated by commas, make a mount a bind. */
bool is_bind(const char *type, const char *options);

#endif
