#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "channel.h"
#include "console.h"
#include "deflate.h"
#include "settings.h"
#include "sha256.h"
#include "util.h"

enum { NONCE_BYTES = 128, MAC_DIGITS = 16, CLOSED_S = 5 };

static char nonce[NONCE_BYTES];
static struct sha256 history; /* of all messages sent, with their line ends */
static int channel = -1;
static unsigned sequence;
static bool is_signed, has_failed;

void report_to(int file)
{
	channel = file;
}

int report_file(void)
{
	return channel;
}

/* A host that has closed its port hears nothing more; the guest comes to its end all the same. */
static void send(const char *data, size_t size)
{
	if (settings.is_console) {
		console_write(data, size);
	} else if (!write_channel(channel, data, size, CLOSED_S * settings.scale * 1000)) {
		has_failed = true;
		is_signed = false;
		console_print("the host has closed its port");
	}
}

bool shake_hands(int seconds)
{
	static const char hello[] = "bootmatrix hello 2\n";

	sha256_init(&history);
	console_drain();
	send(hello, sizeof hello - 1);
	console_drain();
	is_signed = read_channel_line(channel, nonce, sizeof nonce, now_ms() + seconds * settings.scale * 1000) >= 0;
	return is_signed;
}

void derive_key(const char *label, uint8_t key[SHA256_BYTES])
{
	struct hmac_sha256 mac;

	hmac_sha256_init(&mac, nonce, strlen(nonce));
	hmac_sha256_update(&mac, label, strlen(label));
	hmac_sha256_final(&mac, key);
}

void forget_nonce(void)
{
	explicit_bzero(nonce, sizeof nonce);
	explicit_bzero(&history, sizeof history);
	is_signed = false;
}

static void sign(const char *number, const char *text, char mac[MAC_DIGITS + 1])
{
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX];
	struct sha256 hash;

	sha256_init(&hash);
	sha256_update(&hash, nonce, strlen(nonce));
	sha256_update(&hash, number, strlen(number));
	sha256_update(&hash, text, strlen(text));
	sha256_update(&hash, "\n", 1);
	sha256_final(&hash, digest);
	sha256_hex(digest, hex);
	memcpy(mac, hex, MAC_DIGITS);
	mac[MAC_DIGITS] = '\0';
	explicit_bzero(&hash, sizeof hash);
}

void say_text(const char *text)
{
	char number[16], mac[MAC_DIGITS + 1], *line;

	if (!is_signed) {
		console_print("%.900s", text);
		return;
	}
	snprintf(number, sizeof number, " %u ", ++sequence);
	sign(number, text, mac);
	line = format("bootmatrix%s%s %s\n", number, mac, text);
	sha256_update(&history, line, strlen(line));
	send(line, strlen(line));
	if (settings.is_console) { /* the kernel may interrupt one */
		send(line, strlen(line));
		console_push();
	}
	free(line);
}

void say(const char *text, ...)
{
	char line[768];
	va_list words;

	va_start(words, text);
	vsnprintf(line, sizeof line, text, words);
	va_end(words);
	say_text(line);
}

static void say_words(const char *kind, const char *text, va_list words)
{
	char line[384], *data;

	vsnprintf(line, sizeof line, text, words);
	data = encoded(line, strlen(line));
	console_print("%s", line);
	if (is_signed)
		say("%s %.680s", kind, data);
	free(data);
}

void say_error(const char *text, ...)
{
	va_list words;

	has_failed = true;
	va_start(words, text);
	say_words("error", text, words);
	va_end(words);
}

void say_unable(const char *text, ...)
{
	va_list words;

	has_failed = true;
	va_start(words, text);
	say_words("unable", text, words);
	va_end(words);
}

void say_note(const char *text, ...)
{
	va_list words;

	va_start(words, text);
	say_words("note", text, words);
	va_end(words);
}

void set_failed(void)
{
	has_failed = true;
}

bool is_failed(void)
{
	return has_failed;
}

void say_end(void)
{
	struct sha256 all = history;
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX];

	sha256_final(&all, digest);
	sha256_hex(digest, hex);
	say("end %s %s", has_failed ? "fail" : "pass", hex);
}

char *encoded(const void *data, size_t size)
{
	char *text = allocate(NULL, base64_size(size) + 1);

	text[base64_encode(data, size, text)] = '\0';
	return text;
}

char *packed(const void *data, size_t size)
{
	void *file = allocate(NULL, deflate_room(size));
	char *text = encoded(file, gzip_deflate(data, size, file));

	free(file);
	return text;
}
