#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

#include "agent_channel.h"
#include "agent_keeper.h"
#include "agent_request.h"
#include "host.h"

#define KEEPERS 16
#define VERSION 1
#define PIPE_BYTES (1 << 20)
#define MARK_BYTES 16
#define POLLED (2 + KEEPERS + CHANNELS * 3)
/* More than the answers to all frames that one read may bring, beside one largest frame of output. */
#define OUTBOX_BYTES (FRAME_BYTES * 6)
#define OUTBOX_FULL (FRAME_BYTES * 2)

struct keeper {
	int socket; /* -1: not in use */
	bool is_privileged, is_ready;
	char root[256];
};

static struct {
	int in;
	size_t window;
	struct frame_reader reader;
	struct outbox box;
	struct keeper keepers[KEEPERS];
	struct channel channels[CHANNELS];
	char request[REQUEST_BYTES];
	size_t request_bytes;
	uint32_t request_channel;
	int exit_status; /* -1: go on */
	uint8_t mark[MARK_BYTES];
	bool is_synchronous;
} agent;

static int init_socket = -1;

void agent_use_init(int socket)
{
	init_socket = socket;
}

static struct channel *find_channel(uint32_t id)
{
	for (int i = 0; i < CHANNELS; i++)
		if (agent.channels[i].id == id)
			return &agent.channels[i];
	return NULL;
}

static void fail(uint32_t id, int error, const char *text)
{
	send_exit(&agent.box, id, EXIT_FAULT, error, text);
}

/* --- keepers */

static void lose_keeper(int number)
{
	close(agent.keepers[number].socket);
	agent.keepers[number].socket = -1;
	for (int i = 0; i < CHANNELS; i++)
		if (agent.channels[i].id && agent.channels[i].keeper == number) {
			fail(agent.channels[i].id, ECHILD, "the root's first process has ended");
			channel_reset(&agent.channels[i]);
		}
}

static int find_keeper(const struct request *request)
{
	int empty = -1;

	for (int i = 0; i < KEEPERS; i++) {
		struct keeper *keeper = &agent.keepers[i];

		if (keeper->socket < 0)
			empty = i;
		else if (keeper->is_privileged == request->privileged && !strcmp(keeper->root, request->root))
			return i;
	}
	errno = EMFILE;
	if (empty < 0 || strlen(request->root) >= sizeof(agent.keepers[0].root))
		return -1;
	strcpy(agent.keepers[empty].root, request->root);
	agent.keepers[empty].is_privileged = request->privileged;
	agent.keepers[empty].socket = keeper_start(request->root, request->privileged);
	return agent.keepers[empty].socket < 0 ? -1 : empty;
}

static void take_terminal(struct channel *channel, int master)
{
	if (master < 0)
		return;
	fcntl(master, F_SETFL, O_NONBLOCK);
	channel->in = channel->out[STREAM_OUT] = master;
}

static void take_reply(int number)
{
	struct keeper_reply reply;
	struct channel *channel;
	int fds[3];

	if (receive_message(agent.keepers[number].socket, &reply, sizeof(reply), fds) != (long)sizeof(reply)) {
		lose_keeper(number);
		return;
	}
	channel = reply.id ? find_channel(reply.id) : NULL;
	reply.text[sizeof(reply.text) - 1] = 0;
	if (reply.kind == REPLY_FAULT && !reply.id) { /* it could not enter its root, and ends */
		for (int i = 0; i < CHANNELS; i++)
			if (agent.channels[i].id && agent.channels[i].keeper == number) {
				fail(agent.channels[i].id, reply.status, reply.text);
				channel_reset(&agent.channels[i]);
			}
	} else if (!channel || channel->keeper != number) {
		if (fds[0] >= 0)
			close(fds[0]);
	} else if (reply.kind == REPLY_FAULT) {
		fail(reply.id, reply.status, reply.text);
		channel_reset(channel);
	} else if (reply.kind == REPLY_STARTED) {
		take_terminal(channel, fds[0]);
	} else if (reply.kind == REPLY_ENDED) {
		channel_ended(channel, reply.status);
	}
}

/* --- requests */

static bool open_pipes(struct channel *channel, int theirs[3])
{
	for (int i = 0; i < 3; i++) {
		int ends[2], ours;

		if (pipe2(ends, O_CLOEXEC))
			return false;
		ours = i == STREAM_IN ? ends[1] : ends[0];
		theirs[i] = i == STREAM_IN ? ends[0] : ends[1];
		fcntl(ours, F_SETFL, O_NONBLOCK);
		fcntl(ours, F_SETPIPE_SZ, PIPE_BYTES);
		if (i == STREAM_IN)
			channel->in = ours;
		else
			channel->out[i] = ours;
	}
	return true;
}

static void begin(struct channel *channel, const struct request *request)
{
	struct keeper_ask ask = {channel->id, ASK_RUN, 0};
	int theirs[3] = {-1, -1, -1};
	bool is_sent;

	channel->is_tty = request->tty;
	channel->keeper = find_keeper(request);
	is_sent = channel->keeper >= 0 && (request->tty || open_pipes(channel, theirs)) &&
		  !send_message(agent.keepers[channel->keeper].socket, &ask, sizeof(ask), agent.request,
				agent.request_bytes, theirs, request->tty ? 0 : 3);
	for (int i = 0; i < 3; i++)
		if (theirs[i] >= 0)
			close(theirs[i]);
	if (!is_sent) {
		fail(channel->id, errno, "start it");
		channel_reset(channel);
	}
}

/* Have init restart a service; its answer ends the channel. */
static void ask_init(struct channel *channel, const struct request *request)
{
	struct host_ask ask = { .id = channel->id };
	const char *service = request->words[0];

	channel->keeper = -1;
	errno = EINVAL;
	if (service && strlen(service) < sizeof ask.service) {
		strcpy(ask.service, service);
		if (send(init_socket, &ask, sizeof ask, MSG_NOSIGNAL) == (ssize_t)sizeof ask)
			return;
	}
	fail(channel->id, errno, "ask init");
	channel_reset(channel);
}

static void take_answer(void)
{
	struct host_answer answer;
	struct channel *channel;

	if (recv(init_socket, &answer, sizeof answer, 0) != (ssize_t)sizeof answer)
		return;
	channel = find_channel(answer.id);
	if (!answer.id || !channel || channel->keeper >= 0)
		return;
	answer.fault[sizeof answer.fault - 1] = 0;
	send_exit(&agent.box, answer.id, EXIT_STATUS, *answer.fault ? 1 : 0, answer.fault);
	channel_reset(channel);
}

static void open_channel(uint32_t id)
{
	static struct request request;
	static char copy[REQUEST_BYTES]; /* parsing keeps pointers into it */
	struct channel *channel = find_channel(0);

	memcpy(copy, agent.request, agent.request_bytes);
	if (find_channel(id) || request_parse(&request, copy, agent.request_bytes)) {
		fail(id, EINVAL, "read the request");
		return;
	}
	if (!channel) {
		fail(id, EAGAIN, "run more commands");
		return;
	}
	channel->id = id;
	for (int i = 0; i < STREAMS; i++)
		channel->credit[i] = agent.window;
	if (request.verb == VERB_RESTART)
		ask_init(channel, &request);
	else
		begin(channel, &request);
}

static bool add_request(const struct frame *frame)
{
	if (agent.request_bytes && agent.request_channel != frame->channel)
		return false;
	if (agent.request_bytes + frame->length > sizeof(agent.request))
		return false;
	memcpy(agent.request + agent.request_bytes, frame->data, frame->length);
	agent.request_bytes += frame->length;
	agent.request_channel = frame->channel;
	return true;
}

static void send_signal(const struct channel *channel, uint32_t number)
{
	struct keeper_ask ask = {channel->id, ASK_SIGNAL, number};

	if (channel->keeper < 0)
		return;
	send_message(agent.keepers[channel->keeper].socket, &ask, sizeof(ask), NULL, 0, NULL, 0);
}

static void resize(const struct channel *channel, const uint8_t *data)
{
	struct winsize size = {(unsigned short)get32(data), (unsigned short)get32(data + 4), 0, 0};

	if (channel->is_tty && channel->in >= 0)
		ioctl(channel->in, TIOCSWINSZ, &size);
}

/* --- frames of the host; false if they break the rules */

static bool add_credit(struct channel *channel, const uint8_t *data)
{
	uint32_t stream = data[0], bytes = get32(data + 1);

	if (stream != STREAM_OUT && stream != STREAM_ERR)
		return false;
	channel->credit[stream] += bytes;
	return channel->credit[stream] <= agent.window;
}

static bool take_for_channel(struct channel *channel, const struct frame *frame)
{
	switch (frame->type) {
	case FRAME_DATA:
		return frame->length && frame->data[0] == STREAM_IN &&
		       channel_take(channel, frame->data + 1, frame->length - 1, agent.window);
	case FRAME_END:
		channel_end_input(channel);
		return frame->length == 1;
	case FRAME_CREDIT:
		return frame->length == 5 && add_credit(channel, frame->data);
	case FRAME_SIGNAL:
		if (frame->length == 4)
			send_signal(channel, get32(frame->data));
		return frame->length == 4;
	case FRAME_RESIZE:
		if (frame->length == 8)
			resize(channel, frame->data);
		return frame->length == 8;
	case FRAME_CLOSE:
		send_signal(channel, SIGKILL);
		channel_reset(channel);
		return true;
	default:
		return false;
	}
}

static bool take_frame(const struct frame *frame)
{
	struct channel *channel;

	if (frame->type == FRAME_SHUTDOWN) {
		agent.exit_status = AGENT_SHUTDOWN;
		return true;
	}
	if (!frame->channel)
		return false;
	if (frame->type == FRAME_PART || frame->type == FRAME_OPEN) {
		if (!add_request(frame))
			return false;
		if (frame->type == FRAME_OPEN) {
			open_channel(frame->channel);
			agent.request_bytes = 0;
		}
		return true;
	}
	channel = find_channel(frame->channel);
	return channel ? take_for_channel(channel, frame) : true; /* it has ended meanwhile */
}

/* What comes before the host's answer to this agent's greeting was for another one. */
static bool find_mark(struct frame_reader *reader)
{
	size_t have = reader->end - reader->start;
	uint8_t *at = memmem(reader->buffer + reader->start, have, agent.mark, MARK_BYTES);

	if (at)
		reader->start = (size_t)(at - reader->buffer) + MARK_BYTES;
	else if (have >= MARK_BYTES)
		reader->start = reader->end - (MARK_BYTES - 1);
	agent.is_synchronous = at;
	return at;
}

/* Read once, and take the frames that are whole. Return the number of bytes, 0 if there is nothing more now. */
static size_t read_host_once(void)
{
	struct frame frame;
	size_t room;
	uint8_t *at = frame_room(&agent.reader, &room);
	ssize_t size = read(agent.in, at, room);
	int status;

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (size == 0 && !agent.is_synchronous) { /* no host has the port open yet */
		poll(NULL, 0, 5);
		return 0;
	}
	if (size <= 0) {
		agent.exit_status = 0;
		return 0;
	}
	agent.reader.end += (size_t)size;
	if (!agent.is_synchronous && !find_mark(&agent.reader))
		return (size_t)size;
	while ((status = frame_next(&agent.reader, &frame)) > 0 && agent.exit_status < 0)
		if (!take_frame(&frame)) {
			status = -1;
			break;
		}
	if (status < 0)
		agent.exit_status = 1;
	return (size_t)size;
}

/* A read of a virtio port brings a page at most, and poll(2) costs more than it. */
static void read_host(void)
{
	size_t bytes = 0, more;

	do
		bytes += more = read_host_once();
	while (more && bytes < FRAME_BYTES && agent.exit_status < 0);
}

/* --- the loop */

/* The token comes first: a former agent may have been killed in the middle of a frame. */
static void say_hello(uint8_t token[SHA256_BYTES])
{
	struct utsname names;
	uint8_t head[8 + MARK_BYTES];
	char text[256];

	memcpy(agent.box.bytes, token, SHA256_BYTES);
	agent.box.end = SHA256_BYTES;
	explicit_bzero(token, SHA256_BYTES);
	uname(&names);
	put32(head, VERSION);
	put32(head + 4, (uint32_t)agent.window);
	memcpy(head + 8, agent.mark, MARK_BYTES);
	snprintf(text, sizeof(text), "%.60s %.60s", names.release, names.machine);
	send_frame(&agent.box, 0, FRAME_HELLO, head, sizeof(head), text, strlen(text));
}

static size_t add_polled(struct pollfd *polled, size_t count, int fd, short events)
{
	polled[count].fd = events ? fd : -1;
	polled[count].events = events;
	polled[count].revents = 0;
	return count + 1;
}

static size_t what_to_poll(struct pollfd *polled)
{
	bool is_full = outbox_used(&agent.box) > OUTBOX_FULL;
	size_t count = add_polled(polled, 0, agent.in, is_full ? 0 : POLLIN);

	if (agent.in != agent.box.fd)
		count = add_polled(polled, count, agent.box.fd, outbox_used(&agent.box) ? POLLOUT : 0);
	else if (outbox_used(&agent.box)) {
		polled[0].fd = agent.in;
		polled[0].events |= POLLOUT;
	}
	for (int i = 0; i < KEEPERS; i++)
		count = add_polled(polled, count, agent.keepers[i].socket, is_full ? 0 : POLLIN);
	count = add_polled(polled, count, init_socket, is_full ? 0 : POLLIN);
	for (int i = 0; i < CHANNELS; i++) {
		struct channel *channel = &agent.channels[i];

		if (!channel->id)
			continue;
		channel->polled = count;
		count = add_polled(polled, count, channel->in, channel->pending_end ? POLLOUT : 0);
		for (int stream = STREAM_OUT; stream < STREAMS; stream++)
			count = add_polled(polled, count, channel->out[stream],
					   is_full || !channel->credit[stream] ? 0 : POLLIN);
	}
	return count;
}

/* `polled` are its entries of the table; NULL for a channel that is newer. */
static void serve_channel(struct channel *channel, const struct pollfd *polled)
{
	channel_write(channel, &agent.box, agent.window);
	for (int stream = STREAM_OUT; stream < STREAMS; stream++)
		if (outbox_used(&agent.box) <= OUTBOX_FULL && ((polled && polled[stream].revents) || channel->has_ended))
			channel_read(channel, stream, &agent.box);
	if (channel_finish(channel, &agent.box))
		channel_reset(channel);
}

static void serve_once(void)
{
	struct pollfd polled[POLLED + 2];
	size_t count = what_to_poll(polled);

	if (poll(polled, count, -1) < 0)
		return;
	if (polled[0].revents & ~POLLOUT)
		read_host();
	for (int i = 0; i < KEEPERS; i++)
		if (polled[(agent.in != agent.box.fd) + 1 + i].revents)
			take_reply(i);
	if (polled[(agent.in != agent.box.fd) + 1 + KEEPERS].revents & POLLIN)
		take_answer();
	for (int i = 0; i < CHANNELS; i++)
		if (agent.channels[i].id)
			serve_channel(&agent.channels[i], agent.channels[i].polled ? polled + agent.channels[i].polled : NULL);
	outbox_flush(&agent.box);
}

int agent_serve(int in, int out, unsigned window, uint8_t token[SHA256_BYTES])
{
	signal(SIGPIPE, SIG_IGN);
	agent.in = in;
	agent.window = window;
	agent.exit_status = -1;
	agent.box.fd = out;
	agent.box.room = OUTBOX_BYTES;
	agent.box.bytes = malloc(OUTBOX_BYTES);
	if (!agent.box.bytes || getrandom(agent.mark, MARK_BYTES, 0) != MARK_BYTES)
		return 1;
	for (int i = 0; i < KEEPERS; i++)
		agent.keepers[i].socket = -1;
	for (int i = 0; i < CHANNELS; i++)
		channel_clear(&agent.channels[i]);
	fcntl(in, F_SETFL, O_NONBLOCK);
	fcntl(out, F_SETFL, O_NONBLOCK);
	say_hello(token);
	outbox_flush(&agent.box);
	while (agent.exit_status < 0 && !agent.box.is_broken)
		serve_once();
	return agent.exit_status < 0 ? 1 : agent.exit_status;
}
