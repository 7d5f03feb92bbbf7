/* A gzip file (RFC 1952) of stored blocks (RFC 1951): not smaller, but what reads gzip reads it. */
#ifndef BOOTMATRIX_GZIP_H
#define BOOTMATRIX_GZIP_H

#include <stddef.h>
#include <stdint.h>

/* Largest stored block. */
enum { GZIP_BLOCK = 65535, GZIP_BLOCK_HEADER = 5, GZIP_FRAME = 18 };

/* CRC-32 of gzip, Ethernet and PNG; the first `crc` is 0. */
uint32_t crc32_update(uint32_t crc, const void *data, size_t size);

/* Bytes of a gzip file of `size` bytes. */
size_t gzip_size(size_t size);

/* Write a gzip file; return gzip_size(size). */
size_t gzip_store(const void *data, size_t size, void *file);

#endif
