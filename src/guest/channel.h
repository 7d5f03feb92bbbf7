/* Channels to the host: virtio-serial ports, and the console. */
#ifndef BOOTMATRIX_CHANNEL_H
#define BOOTMATRIX_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RESULT_PORT "org.bootmatrix.result"

/* Open the virtio-serial port of a name, without blocking; wait for it until a time. Return -1 if there is none. */
int open_port(const char *name, int64_t until_ms);

/* Write everything to a port that does not block; give up when no host has had it open for so long. */
bool write_channel(int file, const char *data, size_t size, int64_t closed_ms);

/* Read a line without its end from a file that does not block, until a time. Return its length; -1 for none in time, for
 * a line that is too long, and at the end of the file. */
ssize_t read_channel_line(int file, char *line, size_t size, int64_t until_ms);

#endif
