/* Texts, files and time. */
#ifndef BOOTMATRIX_UTIL_H
#define BOOTMATRIX_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Init's own folder, which no container can bind. */
#define STATE "/bootmatrix"

/* Milliseconds of the monotonic clock. */
int64_t now_ms(void);

/* Milliseconds until a time for poll(2): 0 if it is over, -1 (no limit) for NEVER. */
int wait_ms(int64_t until_ms);

#define NEVER INT64_MAX

/* Return a new text as printf(3) makes it. Memory that init cannot get is waited for. */
char *format(const char *text, ...) __attribute__((format(printf, 1, 2)));

/* Allocate; wait while there is no memory. */
void *allocate(void *old, size_t size);

/* Parse a whole decimal number without leading zeros, of at most 18 digits. */
bool parse_number(const char *text, int64_t *number);

/* Cut the next word off a text at a character; return NULL if nothing is left. */
char *next_word(char **rest, char separator);

/* Read the beginning of a file as a text. Return its length, or -1 with errno. */
ssize_t read_text(const char *path, char *text, size_t size);

/* Read the first line of a file. Return whether there is one. */
bool read_line(const char *path, char *line, size_t size);

/* Read a whole file into new memory, with a terminating zero. Return NULL with errno on failure. */
char *read_all(const char *path);

/* Write everything, also to a file that does not block. Return whether this succeeded. */
bool write_all(int file, const void *data, size_t size);

/* Create or replace a file. Return whether this succeeded. */
bool write_text(const char *path, const char *text);

/* Make a folder with all above it. Return whether it is there. */
bool make_folders(const char *path);

/* Names in a folder in the order of their bytes, without those that begin with a dot; the last is NULL. */
char **list_folder(const char *path);

/* All names in a folder but "." and ".." */
char **list_all(const char *path);

void free_list(char **names);

#endif
