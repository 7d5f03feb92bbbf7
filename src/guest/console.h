/* The machine's console, written without blocking. */
#ifndef BOOTMATRIX_CONSOLE_H
#define BOOTMATRIX_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

/* Open the console, also as standard input, output and error. */
void console_open(void);

/* Use a file as the console. */
void console_use(int file);

/* The console's descriptor, which does not block. */
int console_file(void);

/* Stop the terminal from echoing what the host types. */
void console_stop_echo(void);

/* Print data; wait if the buffer has no room. */
void console_write(const void *data, size_t size);

/* Print a line of init's. */
void console_print(const char *text, ...) __attribute__((format(printf, 1, 2)));

/* Whether outputs of containers may be read: the buffer has room for them. */
bool console_has_room(void);

/* Whether printed data waits to be written. */
bool console_is_pending(void);

/* Write what the console takes now. */
void console_push(void);

/* Write everything, and wait until the machine has it. */
void console_drain(void);

#endif
