/* Files below a root that others may change: links and `..` never lead out of it (openat2(2), Linux 5.6). */
#ifndef BOOTMATRIX_INROOT_H
#define BOOTMATRIX_INROOT_H

#include <sys/types.h>

/* Open a path as a process with this root would. Return a descriptor (close-on-exec), or -1 with errno. */
int open_in_root(int root, const char *path, int flags, mode_t mode);

/* Make a folder with all above it. Return it, opened with O_PATH, or -1 with errno. */
int make_folders_in_root(int root, const char *path);

/* Make a file, if missing, with the folders above it. Return it, opened with O_PATH, or -1 with errno. */
int make_file_in_root(int root, const char *path);

#endif
