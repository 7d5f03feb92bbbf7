/* A gzip file (RFC 1952) of one block with fixed codes (RFC 1951): texts become a third to a tenth of their size. */
#ifndef BOOTMATRIX_DEFLATE_H
#define BOOTMATRIX_DEFLATE_H

#include <stddef.h>

/* Most bytes of a gzip file of `size` bytes. */
size_t deflate_room(size_t size);

/* Write a gzip file; return its bytes. */
size_t gzip_deflate(const void *data, size_t size, void *file);

#endif
