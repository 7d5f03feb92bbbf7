#include "agent_builtins.h"

#include <errno.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util.h"

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

/* Print the paths that match a pattern, each with a NUL at its end. */
static int glob_main(char **words)
{
	glob_t found;
	int status;

	if (!words[0])
		return 2;
	status = glob(words[0], 0, NULL, &found);
	for (size_t i = 0; !status && i < found.gl_pathc; i++)
		if (!write_all(1, found.gl_pathv[i], strlen(found.gl_pathv[i]) + 1))
			return 1;
	return status && status != GLOB_NOMATCH ? 1 : 0;
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
	case VERB_GLOB:
		return glob_main(words);
	case VERB_SERVE:
		return serve_main(words);
	default:
		return 2;
	}
}
