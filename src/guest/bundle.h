/* Bundles of containers: their preparation by the files in /etc/bootmatrix/containers. */
#ifndef BOOTMATRIX_BUNDLE_H
#define BOOTMATRIX_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>

/* Set up a bundle: its root, mounts, control groups, requests. The folder is below /containers. */
bool set_up(const char *folder);

/* Mount the sources of a bundle's binds in the containers' view. Late, since other containers may create them. */
void put_binds(const char *folder);

/* Send the result files of a bundle. */
void say_files(const char *folder, const char *name);

/* Return whether a result file was not sent whole, and is left to the host. */
bool has_more_files(void);

bool set_up_volumes(void);

#endif
