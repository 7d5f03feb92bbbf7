/* A fuzzer for where there is no libFuzzer: mutate TARGET INPUTS SECONDS SEEDS FAULT
 * Inputs are changed by chance, always in the same order, and kept if they reach code that none before has reached, by
 * gcc's -fsanitize-coverage=trace-pc. SEEDS is a folder with the first ones; what breaks the reader is left in FAULT. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "drivers.h"

enum { MOST_BYTES = 4096, MOST_INPUTS = 4096, MAP_BYTES = 1 << 16 };

struct input {
	size_t size;
	uint8_t data[MOST_BYTES];
};

static struct input *inputs[MOST_INPUTS];
static size_t input_count;
static struct input current;
static const char *fault;
static uint8_t reached[MAP_BYTES];
static size_t reached_count;
static uint64_t state = 0x9e3779b97f4a7c15;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
	static uintptr_t before;
	uintptr_t place = (uintptr_t)__builtin_return_address(0);
	size_t index = (place ^ before) % MAP_BYTES; /* of the way from one place to the next */

	before = place >> 1;
	reached_count += !reached[index];
	reached[index] = 1;
}

/* xorshift64 (Marsaglia, 2003). */
static size_t below(size_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return limit ? (size_t)(state % limit) : 0;
}

static void keep(const struct input *input)
{
	if (input_count == MOST_INPUTS)
		return;
	inputs[input_count] = malloc(sizeof *input);
	*inputs[input_count++] = *input;
}

static void read_seeds(const char *folder)
{
	struct dirent **names;
	int count = scandir(folder, &names, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		char path[4096];
		FILE *file;

		snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
		free(names[i]);
		file = fopen(path, "r");
		if (!file)
			continue;
		current.size = fread(current.data, 1, MOST_BYTES, file);
		fclose(file);
		keep(&current);
	}
	if (count >= 0)
		free(names);
	current.size = 0;
	keep(&current);
}

/* Put a part of another input in, or over what is there. */
static void splice(struct input *input, const struct input *other)
{
	size_t from = below(other->size), size = 1 + below(other->size - from), at = below(input->size + 1);

	if (other->size == 0)
		return;
	if (below(2) && input->size + size <= MOST_BYTES) {
		memmove(input->data + at + size, input->data + at, input->size - at);
		input->size += size;
	} else if (at + size > MOST_BYTES) {
		size = MOST_BYTES - at;
	}
	memcpy(input->data + at, other->data + from, size);
	if (at + size > input->size)
		input->size = at + size;
}

static void cut(struct input *input)
{
	size_t at = below(input->size), size = 1 + below(input->size - at);

	if (input->size == 0)
		return;
	memmove(input->data + at, input->data + at + size, input->size - at - size);
	input->size -= size;
}

static void mutate(struct input *input)
{
	static const uint8_t bytes[] = {0, 1, 0x7f, 0x80, 0xff, '\n', ' ', '"', '\\', ',', '{', '}', '9', '0', '=', '/'};
	size_t at = below(input->size);

	switch (below(6)) {
	case 0:
		input->data[at] ^= (uint8_t)(1 << below(8));
		break;
	case 1:
		input->data[at] = (uint8_t)below(256);
		break;
	case 2:
		input->data[at] = bytes[below(sizeof bytes)];
		break;
	case 3:
		cut(input);
		break;
	default:
		splice(input, inputs[below(input_count)]);
	}
	if (input->size == 0)
		input->size = 1;
}

/* Leave the input that broke the reader. Only calls that a signal's handler may make. */
static void on_abort(int number)
{
	FILE *file = fopen(fault, "w");

	if (file) {
		fwrite(current.data, 1, current.size, file);
		fclose(file);
	}
	signal(number, SIG_DFL);
	raise(number);
}

static void run(const struct target *target)
{
	size_t before = reached_count;

	target->read(current.data, current.size);
	if (reached_count > before)
		keep(&current);
}

int mutate_main(int argc, char **argv)
{
	const struct target *target = find_target(argc == 6 ? argv[1] : "");
	long most = atol(argv[2]), count = 0;
	time_t until = time(NULL) + atol(argv[3]);

	fault = argv[5];
	signal(SIGABRT, on_abort);
	read_seeds(argv[4]);
	for (size_t i = 0, seeds = input_count; i < seeds; i++) {
		current = *inputs[i];
		target->read(current.data, current.size);
	}
	for (; count < most && time(NULL) <= until; count++) {
		current = *inputs[below(input_count)];
		for (size_t i = 1 + below(4); i > 0; i--)
			mutate(&current);
		run(target);
	}
	printf("%s: held for %ld inputs, %zu kept\n", target->name, count, input_count);
	return 0;
}
