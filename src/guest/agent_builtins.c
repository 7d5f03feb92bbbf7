#include "agent_builtins.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int complain(const char *step, const char *path)
{
	fprintf(stderr, "%s: cannot %s: %s\n", path, step, strerror(errno));
	return 1;
}

bool read_exactly(int file, void *data, size_t size)
{
	char *at = data;

	while (size) {
		ssize_t count = read(file, at, size);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0) {
			if (!count)
				errno = EPIPE;
			return false;
		}
		at += count;
		size -= (size_t)count;
	}
	return true;
}

int builtin_main(enum request_verb verb, char **words)
{
	switch (verb) {
	case VERB_PUT:
		return put_main(words);
	case VERB_GET:
		return get_main(words);
	case VERB_CONNECT:
		return connect_main(words);
	default:
		return 2;
	}
}
