/* Calls a function of the guest's program on the standard input, and prints what it gives: units VERB [ARGUMENT] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "deflate.h"
#include "drivers.h"
#include "hook.h"
#include "netlink.h"
#include "sha256.h"

static unsigned char data[1 << 20];
static size_t size;

static void print_hex(const uint8_t digest[SHA256_BYTES])
{
	char text[SHA256_HEX];

	sha256_hex(digest, text);
	puts(text);
}

/* The parts are of many sizes, so that they begin and end everywhere in a block. */
static void digest(const char *key)
{
	struct sha256 hash;
	struct hmac_sha256 mac;
	uint8_t result[SHA256_BYTES];

	sha256_init(&hash);
	hmac_sha256_init(&mac, key, strlen(key));
	for (size_t at = 0, part; at < size; at += part) {
		part = at * 7 % 131 + 1;
		part = part < size - at ? part : size - at;
		sha256_update(&hash, data + at, part);
		hmac_sha256_update(&mac, data + at, part);
	}
	sha256_final(&hash, result);
	print_hex(result);
	hmac_sha256_final(&mac, result);
	print_hex(result);
}

static void encode(void)
{
	char *text = malloc(base64_size(size) + 1);
	size_t count = base64_encode(data, size, text);

	fwrite(text, 1, count, stdout);
	free(text);
}

static int decode(void)
{
	char *text = malloc(size + 1), *result = malloc(size / 4 * 3 + 1);
	ssize_t count;

	memcpy(text, data, size);
	count = base64_decode(text, size, result);
	if (count >= 0)
		fwrite(result, 1, (size_t)count, stdout);
	free(text);
	free(result);
	return count < 0;
}

static void compress(void)
{
	char *file = malloc(deflate_room(size));
	size_t count = gzip_deflate(data, size, file);

	if (count > deflate_room(size))
		abort();
	fwrite(file, 1, count, stdout);
	free(file);
}

static int parse_hardware(const char *text)
{
	uint8_t address[6];

	if (hardware_parse(text, address) != 0)
		return 1;
	for (int i = 0; i < 6; i++)
		printf("%02x", address[i]);
	return 0;
}

int units_main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "", *argument = argc > 2 ? argv[2] : "";

	size = fread(data, 1, sizeof data, stdin);
	if (strcmp(verb, "digest") == 0)
		digest(argument);
	else if (strcmp(verb, "encode") == 0)
		encode();
	else if (strcmp(verb, "decode") == 0)
		return decode();
	else if (strcmp(verb, "gzip") == 0)
		compress();
	else if (strcmp(verb, "pid") == 0)
		printf("%d\n", (int)oci_state_pid((const char *)data, size));
	else if (strcmp(verb, "hardware") == 0)
		return parse_hardware(argument);
	else
		return 2;
	return 0;
}
