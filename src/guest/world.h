/* The containers' view of the root, and the process ids that they share: docs/guest-protocol.md. */
#ifndef BOOTMATRIX_WORLD_H
#define BOOTMATRIX_WORLD_H

#include <stdbool.h>

/* Make the PID namespace of containers with `pid: host`, if the spec has some. */
bool share_pids(void);

/* Make the containers' view, if the spec needs one: an overlay over init's root. Binds are resolved there, so that none
 * reaches programs and settings of init, of the runtime, or of another container. */
bool make_view(void);

bool has_view(void);

/* Open a path of the view (the root, if there is no view) with O_PATH. Return -1 with errno on failure. */
int open_in_view(const char *path);

/* Bind a path of the view to an open file or folder. */
bool bind_from_view(const char *source, int target, const char *options);

bool make_in_view(const char *path);

/* Mount in the view; all paths are resolved there. */
bool mount_in_view(const char *type, const char *source, const char *target, const char *options);

/* Mount the source of a bind where the runtime expects it, at /bootmatrix/binds/PLACE. `sees_all`: with init's /proc. */
void put_bind(const char *place, const char *source, bool sees_all);

#endif
