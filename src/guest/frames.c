#include "frames.h"

#include <string.h>

uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

void put32(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 24);
	at[1] = (uint8_t)(value >> 16);
	at[2] = (uint8_t)(value >> 8);
	at[3] = (uint8_t)value;
}

void frame_header(uint8_t *at, uint32_t length, uint32_t channel, enum frame_type type)
{
	put32(at, length);
	put32(at + 4, channel);
	at[8] = (uint8_t)type;
}

uint8_t *frame_room(struct frame_reader *reader, size_t *bytes)
{
	if (reader->start == reader->end)
		reader->start = reader->end = 0;
	/* What is left is less than a frame once all whole ones have been taken. */
	if (sizeof(reader->buffer) - reader->end < FRAME_BYTES) {
		memmove(reader->buffer, reader->buffer + reader->start, reader->end - reader->start);
		reader->end -= reader->start;
		reader->start = 0;
	}
	*bytes = sizeof(reader->buffer) - reader->end;
	return reader->buffer + reader->end;
}

int frame_next(struct frame_reader *reader, struct frame *frame)
{
	const uint8_t *at = reader->buffer + reader->start;
	size_t have = reader->end - reader->start;

	if (have < FRAME_HEADER)
		return 0;
	frame->length = get32(at);
	frame->channel = get32(at + 4);
	if (frame->length > FRAME_PAYLOAD || at[8] == 0 || at[8] >= FRAME_TYPES)
		return -1;
	if (have < FRAME_HEADER + frame->length)
		return 0;
	frame->type = (enum frame_type)at[8];
	frame->data = at + FRAME_HEADER;
	reader->start += FRAME_HEADER + frame->length;
	return 1;
}
