#include "sha256.h"

#include <string.h>

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t ROUND[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t word, int bits)
{
	return word >> bits | word << (32 - bits);
}

static uint32_t load_be32(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void store_be32(uint8_t *bytes, uint32_t word)
{
	for (int i = 0; i < 4; i++)
		bytes[i] = (uint8_t)(word >> (24 - 8 * i));
}

static void expand(const uint8_t *block, uint32_t words[64])
{
	for (int i = 0; i < 16; i++)
		words[i] = load_be32(block + 4 * i);
	for (int i = 16; i < 64; i++) {
		uint32_t a = words[i - 15], b = words[i - 2];
		uint32_t low = rotate(a, 7) ^ rotate(a, 18) ^ a >> 3;
		uint32_t high = rotate(b, 17) ^ rotate(b, 19) ^ b >> 10;
		words[i] = words[i - 16] + low + words[i - 7] + high;
	}
}

static void compress(uint32_t state[8], const uint8_t *block)
{
	uint32_t words[64], v[8];

	expand(block, words);
	memcpy(v, state, sizeof v);
	for (int i = 0; i < 64; i++) {
		uint32_t sum1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
		uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
		uint32_t first = v[7] + sum1 + choice + ROUND[i] + words[i];
		uint32_t sum0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
		uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);

		memmove(v + 1, v, 7 * sizeof v[0]);
		v[4] += first;
		v[0] = first + sum0 + majority;
	}
	for (int i = 0; i < 8; i++)
		state[i] += v[i];
}

void sha256_init(struct sha256 *hash)
{
	/* The first 32 bits of the fractional parts of the square roots of the first 8 primes. */
	static const uint32_t START[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};

	memcpy(hash->state, START, sizeof START);
	hash->length = 0;
}

void sha256_update(struct sha256 *hash, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	while (size > 0) {
		size_t used = hash->length % SHA256_BLOCK;
		size_t part = SHA256_BLOCK - used < size ? SHA256_BLOCK - used : size;

		if (part == SHA256_BLOCK) {
			compress(hash->state, bytes);
		} else {
			memcpy(hash->block + used, bytes, part);
			if (used + part == SHA256_BLOCK)
				compress(hash->state, hash->block);
		}
		hash->length += part;
		bytes += part;
		size -= part;
	}
}

void sha256_final(struct sha256 *hash, uint8_t digest[SHA256_BYTES])
{
	static const uint8_t PADDING[SHA256_BLOCK] = {0x80};
	uint64_t bits = hash->length * 8;
	size_t used = hash->length % SHA256_BLOCK;
	uint8_t length[8];

	store_be32(length, (uint32_t)(bits >> 32));
	store_be32(length + 4, (uint32_t)bits);
	sha256_update(hash, PADDING, used < 56 ? 56 - used : 120 - used);
	sha256_update(hash, length, sizeof length);
	for (int i = 0; i < 8; i++)
		store_be32(digest + 4 * i, hash->state[i]);
}

static void start_padded(struct sha256 *hash, const uint8_t key[SHA256_BLOCK], uint8_t pad)
{
	uint8_t block[SHA256_BLOCK];

	for (int i = 0; i < SHA256_BLOCK; i++)
		block[i] = key[i] ^ pad;
	sha256_init(hash);
	sha256_update(hash, block, sizeof block);
}

void hmac_sha256_init(struct hmac_sha256 *mac, const void *key, size_t size)
{
	uint8_t block[SHA256_BLOCK] = {0};

	if (size > SHA256_BLOCK) {
		sha256_init(&mac->inner);
		sha256_update(&mac->inner, key, size);
		sha256_final(&mac->inner, block);
	} else if (size > 0) {
		memcpy(block, key, size);
	}
	start_padded(&mac->inner, block, 0x36);
	start_padded(&mac->outer, block, 0x5c);
}

void hmac_sha256_update(struct hmac_sha256 *mac, const void *data, size_t size)
{
	sha256_update(&mac->inner, data, size);
}

void hmac_sha256_final(struct hmac_sha256 *mac, uint8_t digest[SHA256_BYTES])
{
	sha256_final(&mac->inner, digest);
	sha256_update(&mac->outer, digest, SHA256_BYTES);
	sha256_final(&mac->outer, digest);
}

void sha256_hex(const uint8_t digest[SHA256_BYTES], char text[SHA256_HEX])
{
	static const char DIGITS[] = "0123456789abcdef";

	for (int i = 0; i < SHA256_BYTES; i++) {
		*text++ = DIGITS[digest[i] >> 4];
		*text++ = DIGITS[digest[i] & 15];
	}
	*text = '\0';
}

int sha256_equal(const uint8_t first[SHA256_BYTES], const uint8_t second[SHA256_BYTES])
{
	unsigned difference = 0;

	for (int i = 0; i < SHA256_BYTES; i++)
		difference |= (unsigned)(first[i] ^ second[i]);
	return difference == 0;
}
