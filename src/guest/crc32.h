/* CRC-32 of gzip (RFC 1952). */
#ifndef BOOTMATRIX_CRC32_H
#define BOOTMATRIX_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Go on with a CRC, which begins with 0. */
uint32_t crc32_update(uint32_t crc, const void *data, size_t size);

#endif
