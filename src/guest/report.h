/* Messages to the host: docs/guest-protocol.md. */
#ifndef BOOTMATRIX_REPORT_H
#define BOOTMATRIX_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sha256.h"

/* Use a channel; it does not block. */
void report_to(int file);

/* The channel, -1 if there is none. */
int report_file(void);

/* Greet the host, and read the nonce with which messages are signed. Return whether the host answered. */
bool shake_hands(int seconds);

/* Derive a key from the nonce. */
void derive_key(const char *label, uint8_t key[SHA256_BYTES]);

/* Send a message. Without a host it is printed. */
void say(const char *text, ...) __attribute__((format(printf, 1, 2)));

/* Send a message whose words are large. */
void say_text(const char *text);

/* Report that init itself failed; the guest cannot pass any more. */
void say_error(const char *text, ...) __attribute__((format(printf, 1, 2)));

/* Report that the spec's own images cannot start any container, which is not the guest's fault. */
void say_unable(const char *text, ...) __attribute__((format(printf, 1, 2)));

/* Report a remark that changes no verdict. */
void say_note(const char *text, ...) __attribute__((format(printf, 1, 2)));

/* The guest cannot pass any more. */
void set_failed(void);

bool is_failed(void);

/* Send the last message: the verdict, and the digest of all messages. */
void say_end(void);

/* Overwrite the nonce, in a process that is not init. */
void forget_nonce(void);

/* Base64 of data, as a new text. */
char *encoded(const void *data, size_t size);

/* Base64 of the data's gzip file, as a new text. */
char *packed(const void *data, size_t size);

#endif
