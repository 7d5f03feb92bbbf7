#include "agent_channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_BYTES (FRAME_PAYLOAD - 1)

size_t outbox_used(const struct outbox *box)
{
	return box->end - box->start;
}

void outbox_flush(struct outbox *box)
{
	while (box->start < box->end) {
		ssize_t size = write(box->fd, box->bytes + box->start, box->end - box->start);

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0) {
			box->is_broken = box->is_broken || errno != EAGAIN;
			return;
		}
		box->start += (size_t)size;
	}
	box->start = box->end = 0;
}

/* Make room for a frame: the agent reads neither commands nor the host while there is none for the largest ones. */
static uint8_t *outbox_room(struct outbox *box, size_t size)
{
	if (box->room - box->end < size) {
		memmove(box->bytes, box->bytes + box->start, outbox_used(box));
		box->end -= box->start;
		box->start = 0;
	}
	if (box->room - box->end < size) {
		box->is_broken = true;
		return NULL;
	}
	return box->bytes + box->end;
}

void send_frame(struct outbox *box, uint32_t channel, enum frame_type type, const void *head, size_t head_bytes,
		const void *body, size_t body_bytes)
{
	size_t length = head_bytes + body_bytes;
	uint8_t *at = outbox_room(box, FRAME_HEADER + length);

	if (!at)
		return;
	frame_header(at, (uint32_t)length, channel, type);
	memcpy(at + FRAME_HEADER, head, head_bytes);
	if (body_bytes)
		memcpy(at + FRAME_HEADER + head_bytes, body, body_bytes);
	box->end += FRAME_HEADER + length;
}

void send_exit(struct outbox *box, uint32_t channel, enum exit_kind kind, int status, const char *text)
{
	uint8_t head[5] = {(uint8_t)kind};

	put32(head + 1, (uint32_t)status);
	send_frame(box, channel, FRAME_EXIT, head, sizeof(head), text, strlen(text));
}

static void close_at(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static size_t pending_bytes(const struct channel *channel)
{
	return channel->pending_end - channel->pending_start;
}

static void give_credit(struct channel *channel, struct outbox *box, size_t least)
{
	uint8_t body[5] = {STREAM_IN};

	if (channel->consumed < least)
		return;
	put32(body + 1, (uint32_t)channel->consumed);
	channel->consumed = 0;
	send_frame(box, channel->id, FRAME_CREDIT, body, sizeof(body), NULL, 0);
}

/* Write as much as fits without waiting; the rest of it, or 0 if nobody reads any more. */
static size_t write_some(struct channel *channel, const uint8_t *data, size_t size)
{
	size_t done = 0;

	while (channel->in >= 0 && done < size) {
		ssize_t count = write(channel->in, data + done, size - done);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN)
			break;
		if (count < 0 && !channel->is_tty)
			close_at(&channel->in);
		else if (count < 0)
			done = size;
		else
			done += (size_t)count;
	}
	if (channel->in < 0)
		done = size; /* as into a pipe that is closed: thrown away */
	channel->consumed += done;
	return size - done;
}

bool channel_take(struct channel *channel, const uint8_t *data, size_t size, size_t window)
{
	size_t left = pending_bytes(channel) ? size : write_some(channel, data, size);

	if (!left)
		return true;
	if (pending_bytes(channel) + left > window)
		return false;
	if (!channel->pending && !(channel->pending = malloc(window)))
		return false;
	if (channel->pending_end + left > window) {
		memmove(channel->pending, channel->pending + channel->pending_start, pending_bytes(channel));
		channel->pending_end -= channel->pending_start;
		channel->pending_start = 0;
	}
	memcpy(channel->pending + channel->pending_end, data + size - left, left);
	channel->pending_end += left;
	return true;
}

void channel_write(struct channel *channel, struct outbox *box, size_t window)
{
	size_t bytes = pending_bytes(channel);

	if (bytes)
		channel->pending_start = channel->pending_end - write_some(channel, channel->pending + channel->pending_start, bytes);
	if (!pending_bytes(channel)) {
		channel->pending_start = channel->pending_end = 0;
		if (channel->has_input_end)
			channel_end_input(channel);
	}
	give_credit(channel, box, window / 4);
}

void channel_end_input(struct channel *channel)
{
	channel->has_input_end = true;
	if (pending_bytes(channel))
		return;
	if (channel->is_tty && channel->in >= 0 && write(channel->in, "\4", 1) < 0)
		close_at(&channel->in);
	if (!channel->is_tty)
		close_at(&channel->in);
}

static void end_output(struct channel *channel, int stream, struct outbox *box)
{
	uint8_t number = (uint8_t)stream;

	close_at(&channel->out[stream]);
	send_frame(box, channel->id, FRAME_END, &number, 1, NULL, 0);
}

void channel_read(struct channel *channel, int stream, struct outbox *box)
{
	static uint8_t buffer[1 + READ_BYTES];
	size_t most = channel->credit[stream] < READ_BYTES ? channel->credit[stream] : READ_BYTES;
	ssize_t size;

	if (channel->has_ended && channel->last[stream] < most)
		most = channel->last[stream];
	if (channel->out[stream] < 0 || !most)
		return;
	buffer[0] = (uint8_t)stream;
	size = read(channel->out[stream], buffer + 1, most);
	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size <= 0) { /* the end; or of a terminal, that no program has it open any more */
		end_output(channel, stream, box);
		return;
	}
	channel->credit[stream] -= (size_t)size;
	if (channel->has_ended)
		channel->last[stream] -= (size_t)size;
	send_frame(box, channel->id, FRAME_DATA, buffer, 1 + (size_t)size, NULL, 0);
}

/* Processes that a command leaves behind may hold its streams open: only what is there at its end is still read. */
void channel_ended(struct channel *channel, int status)
{
	channel->has_ended = true;
	channel->status = status;
	for (int stream = STREAM_OUT; stream < STREAMS; stream++) {
		int bytes = 0;

		if (channel->out[stream] >= 0 && !ioctl(channel->out[stream], FIONREAD, &bytes))
			channel->last[stream] = (size_t)bytes;
	}
}

bool channel_finish(struct channel *channel, struct outbox *box)
{
	if (!channel->has_ended)
		return false;
	for (int stream = STREAM_OUT; stream < STREAMS; stream++)
		if (channel->out[stream] >= 0 && channel->last[stream])
			return false;
	if (WIFSIGNALED(channel->status))
		send_exit(box, channel->id, EXIT_SIGNAL, WTERMSIG(channel->status), "");
	else
		send_exit(box, channel->id, EXIT_STATUS, WEXITSTATUS(channel->status), "");
	return true;
}

void channel_reset(struct channel *channel)
{
	if (channel->in != channel->out[STREAM_OUT])
		close_at(&channel->in);
	for (int stream = 0; stream < STREAMS; stream++)
		close_at(&channel->out[stream]);
	free(channel->pending);
	channel_clear(channel);
}

void channel_clear(struct channel *channel)
{
	memset(channel, 0, sizeof(*channel));
	channel->in = channel->out[STREAM_IN] = channel->out[STREAM_OUT] = channel->out[STREAM_ERR] = -1;
}
