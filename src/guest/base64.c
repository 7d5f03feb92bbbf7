#include "base64.h"

#include <stdint.h>

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_encode(const void *data, size_t size, char *text)
{
	const uint8_t *bytes = data;
	char *end = text;

	for (size_t i = 0; i < size; i += 3) {
		size_t left = size - i;
		uint32_t group = (uint32_t)bytes[i] << 16;

		if (left > 1)
			group |= (uint32_t)bytes[i + 1] << 8;
		if (left > 2)
			group |= bytes[i + 2];
		*end++ = DIGITS[group >> 18];
		*end++ = DIGITS[group >> 12 & 63];
		*end++ = left > 1 ? DIGITS[group >> 6 & 63] : '=';
		*end++ = left > 2 ? DIGITS[group & 63] : '=';
	}
	return (size_t)(end - text);
}

static int value(char digit)
{
	if (digit >= 'A' && digit <= 'Z')
		return digit - 'A';
	if (digit >= 'a' && digit <= 'z')
		return digit - 'a' + 26;
	if (digit >= '0' && digit <= '9')
		return digit - '0' + 52;
	return digit == '+' ? 62 : digit == '/' ? 63 : -1;
}

/* Decode four characters, of which the last `padding` are not digits. Return -1 if a bit is not used and not 0. */
static int32_t decode_group(const char *text, int padding)
{
	int32_t group = 0;

	for (int i = 0; i < 4; i++) {
		int digit = i < 4 - padding ? value(text[i]) : 0;

		if (digit < 0)
			return -1;
		group = group << 6 | digit;
	}
	return group & ((1 << 8 * padding) - 1) ? -1 : group;
}

ssize_t base64_decode(const char *text, size_t size, void *data)
{
	uint8_t *bytes = data;
	ssize_t count = 0;

	if (size % 4)
		return -1;
	for (size_t i = 0; i < size; i += 4) {
		int padding = i + 4 < size || text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
		int32_t group = decode_group(text + i, padding);

		if (group < 0)
			return -1;
		for (int j = 0; j < 3 - padding; j++)
			bytes[count++] = (uint8_t)(group >> (16 - 8 * j));
	}
	return count;
}
