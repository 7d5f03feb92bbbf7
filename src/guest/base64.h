/* Base64 (RFC 4648, section 4), with padding and without line breaks. */
#ifndef BOOTMATRIX_BASE64_H
#define BOOTMATRIX_BASE64_H

#include <stddef.h>
#include <sys/types.h>

/* Characters of `size` encoded bytes. No terminating zero is counted or written. */
static inline size_t base64_size(size_t size)
{
	return (size + 2) / 3 * 4;
}

/* Encode; return base64_size(size). */
size_t base64_encode(const void *data, size_t size, char *text);

/* Decode at most `size / 4 * 3` bytes; `data` may be `text` itself. Return their number, or -1 if the text is not canonical. */
ssize_t base64_decode(const char *text, size_t size, void *data);

#endif
