/* One command of the host's, with its streams. */
#ifndef BOOTMATRIX_AGENT_CHANNEL_H
#define BOOTMATRIX_AGENT_CHANNEL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frames.h"

#define CHANNELS 64

/* Frames for the host that could not be written yet. */
struct outbox {
	uint8_t *bytes;
	size_t start, end, room;
	int fd;
	bool is_broken;
};

struct channel {
	uint32_t id; /* 0: not in use */
	int keeper;  /* index of its root's keeper */
	int in;      /* where the host's data go, or -1 */
	int out[STREAMS];
	size_t credit[STREAMS];
	uint8_t *pending; /* the host's data that do not fit into `in` yet: at most the window */
	size_t pending_start, pending_end;
	size_t consumed; /* not yet given back as credit */
	bool has_input_end, is_tty, has_ended;
	int status;
	size_t polled; /* index of its first entry in the loop's table; two more follow */
	size_t last[STREAMS]; /* after its end: bytes that it had written by then */
};

void outbox_flush(struct outbox *box);
size_t outbox_used(const struct outbox *box);

/* Add a frame of up to two parts. */
void send_frame(struct outbox *box, uint32_t channel, enum frame_type type, const void *head, size_t head_bytes,
		const void *body, size_t body_bytes);
void send_exit(struct outbox *box, uint32_t channel, enum exit_kind kind, int status, const char *text);

/* The host's data for the command; false if it sent more than it may. */
bool channel_take(struct channel *channel, const uint8_t *data, size_t size, size_t window);
void channel_end_input(struct channel *channel);

/* Write pending data to the command, and give credit back. */
void channel_write(struct channel *channel, struct outbox *box, size_t window);

/* Read a stream's output and send it, within its credit. */
void channel_read(struct channel *channel, int stream, struct outbox *box);

/* After its end: whether all it wrote by then has been sent; then the last frame is sent too. */
bool channel_finish(struct channel *channel, struct outbox *box);
void channel_ended(struct channel *channel, int status);

/* Make it unused, for the first time; and at its end, when it holds descriptors. */
void channel_clear(struct channel *channel);
void channel_reset(struct channel *channel);

#endif
