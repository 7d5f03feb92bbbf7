/* A request of the host: what to run, where and how. Texts point into the message that was parsed. */
#ifndef BOOTMATRIX_AGENT_REQUEST_H
#define BOOTMATRIX_AGENT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUEST_BYTES (128 << 10)
#define REQUEST_WORDS 16384

enum request_verb { VERB_EXEC, VERB_PUT, VERB_GET, VERB_CONNECT, VERB_INFO, VERB_GLOB, VERB_SERVE, VERB_RESTART };

struct request {
	enum request_verb verb;
	const char *root;    /* path of the root in the guest; empty for the guest's own */
	bool tty, privileged;
	uint32_t uid, gid;
	uint16_t rows, columns;
	const char *cwd;
	char **words;        /* argv, or the verb's own arguments */
	char **env;
	char *table[REQUEST_WORDS + 2];
};

/* Parse words that each end in NUL; -1 if they are not a request. */
int request_parse(struct request *request, char *text, size_t length);

#endif
