/* Frames of the agent's channel: see docs/agent.md. */
#ifndef BOOTMATRIX_FRAMES_H
#define BOOTMATRIX_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A header is the payload's length, the channel's number (both big-endian), and the type. */
#define FRAME_HEADER 9
#define FRAME_PAYLOAD 65536
#define FRAME_BYTES (FRAME_HEADER + FRAME_PAYLOAD)

enum frame_type {
	FRAME_HELLO = 1, /* guest: version, window, 16 random bytes that the host's first bytes repeat, release and machine */
	FRAME_PART,      /* host: the beginning of a request that takes several frames */
	FRAME_OPEN,      /* host: the rest of a request */
	FRAME_DATA,      /* stream number, bytes */
	FRAME_END,       /* stream number: no more data */
	FRAME_CREDIT,    /* stream number, further bytes that the sender may send */
	FRAME_SIGNAL,    /* host: number of a signal */
	FRAME_RESIZE,    /* host: rows, columns of the terminal */
	FRAME_CLOSE,     /* host: end the command, forget the channel */
	FRAME_EXIT,      /* guest: kind, status; the channel's last frame */
	FRAME_SHUTDOWN,  /* host: leave */
	FRAME_TYPES
};

enum frame_stream { STREAM_IN, STREAM_OUT, STREAM_ERR, STREAMS };

enum exit_kind {
	EXIT_STATUS = 1, /* the command's exit status */
	EXIT_SIGNAL,     /* number of the signal that ended it */
	EXIT_FAULT       /* errno, and in words what failed: nothing was run */
};

struct frame {
	uint32_t channel;
	uint32_t length;
	const uint8_t *data;
	enum frame_type type;
};

/* Frames out of a stream of bytes. */
struct frame_reader {
	uint8_t buffer[2 * FRAME_BYTES];
	size_t start, end;
};

/* Where the next bytes belong; sets their number, which is never 0. */
uint8_t *frame_room(struct frame_reader *reader, size_t *bytes);

/* Take the next whole frame, valid until the next frame_room: 1; 0 if there is none yet; -1 if it is invalid. */
int frame_next(struct frame_reader *reader, struct frame *frame);

void frame_header(uint8_t *at, uint32_t length, uint32_t channel, enum frame_type type);

uint32_t get32(const uint8_t *at);
void put32(uint8_t *at, uint32_t value);

#endif
