/* Disks of the guest. */
#ifndef BOOTMATRIX_DISK_H
#define BOOTMATRIX_DISK_H

#include <stdbool.h>
#include <stddef.h>

/* Wait for the disk with a serial number, and set the path of its device: a machine may have other disks. Return whether
 * it is there in time. */
bool find_disk(const char *serial, char *disk, size_t size);

#endif
