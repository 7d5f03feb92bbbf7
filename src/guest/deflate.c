#include "deflate.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "crc32.h"
#include "util.h"

enum {
	HASH_BITS = 13,
	WINDOW = 32768,
	LEAST = 4, /* shorter repetitions are not worth it */
	MOST = 258,
	END_OF_BLOCK = 256,
	FRAME = 18, /* header and trailer */
};

struct bits {
	uint8_t *next;
	uint32_t value;
	unsigned count;
};

static void put(struct bits *bits, uint32_t value, unsigned count)
{
	bits->value |= value << bits->count;
	bits->count += count;
	while (bits->count >= 8) {
		*bits->next++ = (uint8_t)bits->value;
		bits->value >>= 8;
		bits->count -= 8;
	}
}

/* Codes have their first bit first, numbers their last one. */
static void put_code(struct bits *bits, uint32_t code, unsigned count)
{
	uint32_t reversed = 0;

	for (unsigned i = 0; i < count; i++)
		reversed |= ((code >> i) & 1) << (count - 1 - i);
	put(bits, reversed, count);
}

static void put_symbol(struct bits *bits, unsigned symbol)
{
	if (symbol < 144)
		put_code(bits, 0x30 + symbol, 8);
	else if (symbol < 256)
		put_code(bits, 0x190 + symbol - 144, 9);
	else if (symbol < 280)
		put_code(bits, symbol - 256, 7);
	else
		put_code(bits, 0xc0 + symbol - 280, 8);
}

/* Number of further bits: codes of lengths (from 3) and distances (from 1) double their step every 4 or 2 codes. */
static unsigned extra_bits(unsigned value, unsigned steps)
{
	unsigned extra = 0;

	while (value >> extra >= 2 * steps)
		extra++;
	return extra;
}

static void put_repetition(struct bits *bits, unsigned length, unsigned distance)
{
	unsigned value = length - 3, extra = extra_bits(value, 4);

	if (length == MOST)
		put_symbol(bits, 285);
	else
		put_symbol(bits, 257 + 4 * extra + (value >> extra));
	if (length < MOST)
		put(bits, value & ((1U << extra) - 1), extra);
	value = distance - 1;
	extra = extra_bits(value, 2);
	put_code(bits, 2 * extra + (value >> extra), 5);
	put(bits, value & ((1U << extra) - 1), extra);
}

static unsigned hash_of(const uint8_t *data)
{
	uint32_t value = data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;

	return value * 2654435761U >> (32 - HASH_BITS);
}

/* Length of what is alike at two places. */
static unsigned alike(const uint8_t *first, const uint8_t *second, size_t most)
{
	unsigned length = 0;

	while (length < most && length < MOST && first[length] == second[length])
		length++;
	return length;
}

static void compress(struct bits *bits, const uint8_t *data, size_t size)
{
	size_t *places = allocate(NULL, sizeof *places << HASH_BITS); /* 1 + where a hash was seen last */
	size_t i = 0;

	memset(places, 0, sizeof *places << HASH_BITS);
	while (i < size) {
		unsigned length = 0, hash = i + LEAST <= size ? hash_of(data + i) : 0;
		size_t place = i + LEAST <= size ? places[hash] : 0;

		if (place && i - (place - 1) <= WINDOW)
			length = alike(data + place - 1, data + i, size - i);
		if (i + LEAST <= size)
			places[hash] = i + 1;
		if (length >= LEAST) {
			put_repetition(bits, length, (unsigned)(i - (place - 1)));
			i += length;
		} else {
			put_symbol(bits, data[i++]);
		}
	}
	free(places);
}

static uint8_t *put_number(uint8_t *next, uint32_t number)
{
	for (int i = 0; i < 4; i++)
		*next++ = (uint8_t)(number >> 8 * i);
	return next;
}

size_t deflate_room(size_t size)
{
	return size + size / 8 + FRAME + 8;
}

size_t gzip_deflate(const void *data, size_t size, void *file)
{
	static const uint8_t header[10] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3 };
	struct bits bits = { .next = (uint8_t *)file + sizeof header };

	memcpy(file, header, sizeof header);
	put(&bits, 1 | 1 << 1, 3); /* the last block, with fixed codes */
	compress(&bits, data, size);
	put_symbol(&bits, END_OF_BLOCK);
	put(&bits, 0, 7); /* to the next whole byte */
	bits.next = put_number(bits.next, crc32_update(0, data, size));
	bits.next = put_number(bits.next, (uint32_t)size);
	return (size_t)(bits.next - (uint8_t *)file);
}
