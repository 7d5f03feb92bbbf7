#include "gzip.h"

#include <string.h>

/* CRC of each half byte, by the reversed polynomial 0xedb88320. */
static const uint32_t CRC[16] = {
	0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
	0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
};

uint32_t crc32_update(uint32_t crc, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	crc = ~crc;
	for (size_t i = 0; i < size; i++) {
		crc = CRC[(crc ^ bytes[i]) & 15] ^ crc >> 4;
		crc = CRC[(crc ^ bytes[i] >> 4) & 15] ^ crc >> 4;
	}
	return ~crc;
}

static uint8_t *put_le(uint8_t *at, uint32_t number, int bytes)
{
	for (int i = 0; i < bytes; i++)
		*at++ = (uint8_t)(number >> 8 * i);
	return at;
}

size_t gzip_size(size_t size)
{
	size_t blocks = size ? (size - 1) / GZIP_BLOCK + 1 : 1;

	return GZIP_FRAME + blocks * GZIP_BLOCK_HEADER + size;
}

static uint8_t *put_blocks(uint8_t *at, const uint8_t *data, size_t size)
{
	do {
		size_t part = size < GZIP_BLOCK ? size : GZIP_BLOCK;

		*at++ = part == size; /* the last block; type 0: stored */
		at = put_le(at, (uint32_t)part, 2);
		at = put_le(at, ~(uint32_t)part, 2);
		if (part > 0)
			memcpy(at, data, part);
		at += part;
		data += part;
		size -= part;
	} while (size > 0);
	return at;
}

size_t gzip_store(const void *data, size_t size, void *file)
{
	/* Magic, method 8, no flags, no time, no extra flags, Unix. */
	static const uint8_t HEADER[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3};
	uint8_t *at = file;

	memcpy(at, HEADER, sizeof HEADER);
	at = put_blocks(at + sizeof HEADER, data, size);
	at = put_le(at, crc32_update(0, data, size), 4);
	at = put_le(at, (uint32_t)size, 4);
	return (size_t)(at - (uint8_t *)file);
}
