/* Loading of kernel modules. */
#ifndef BOOTMATRIX_MODULES_H
#define BOOTMATRIX_MODULES_H

/* Load the modules whose paths a file lists, one per line, in that order. Report each failure on the standard output.
 * Return their number, or -1 if the list cannot be read. A module that is loaded already is not a failure. */
int load_modules(const char *list);

#endif
