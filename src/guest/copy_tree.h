/* Copies of files and folders with their owners, modes and times. */
#ifndef BOOTMATRIX_COPY_TREE_H
#define BOOTMATRIX_COPY_TREE_H

#include <stdbool.h>

/* Copy a file, folder, link or device; add to a folder that is there, and replace a file. Return whether this
 * succeeded, else set errno. */
bool copy_tree(const char *from, const char *to);

#endif
