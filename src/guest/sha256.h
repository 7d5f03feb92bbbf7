/* SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104), incremental. */
#ifndef BOOTMATRIX_SHA256_H
#define BOOTMATRIX_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_BLOCK = 64, SHA256_HEX = 65 };

struct sha256 {
	uint32_t state[8];
	uint64_t length; /* bytes so far */
	uint8_t block[SHA256_BLOCK];
};

struct hmac_sha256 {
	struct sha256 inner;
	struct sha256 outer;
};

void sha256_init(struct sha256 *hash);
void sha256_update(struct sha256 *hash, const void *data, size_t size);
void sha256_final(struct sha256 *hash, uint8_t digest[SHA256_BYTES]);

void hmac_sha256_init(struct hmac_sha256 *mac, const void *key, size_t size);
void hmac_sha256_update(struct hmac_sha256 *mac, const void *data, size_t size);
void hmac_sha256_final(struct hmac_sha256 *mac, uint8_t digest[SHA256_BYTES]);

/* Write a digest as 64 hexadecimal digits and a terminating zero. */
void sha256_hex(const uint8_t digest[SHA256_BYTES], char text[SHA256_HEX]);

/* Compare two digests in constant time. Return nonzero if they are equal. */
int sha256_equal(const uint8_t first[SHA256_BYTES], const uint8_t second[SHA256_BYTES]);

#endif
