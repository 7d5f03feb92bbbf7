#include "agent_request.h"

#include <stdlib.h>
#include <string.h>

static const char *const VERBS[] = {"exec", "put", "get", "connect", "info", "glob", "serve", "restart"};

struct words {
	char *at, *end;
};

static char *next(struct words *words)
{
	char *word = words->at;
	char *stop = word ? memchr(word, 0, (size_t)(words->end - word)) : NULL;

	words->at = stop ? stop + 1 : NULL;
	return stop ? word : NULL;
}

static bool next_number(struct words *words, uint32_t most, uint32_t *value)
{
	const char *word = next(words);
	unsigned long long number = 0;

	if (!word || !*word || strlen(word) > 10)
		return false;
	for (; *word; word++) {
		if (*word < '0' || *word > '9')
			return false;
		number = number * 10 + (unsigned)(*word - '0');
	}
	*value = (uint32_t)number;
	return number <= most;
}

static bool read_verb(struct request *request, const char *word)
{
	for (size_t number = 0; word && number < sizeof(VERBS) / sizeof(*VERBS); number++)
		if (!strcmp(word, VERBS[number])) {
			request->verb = (enum request_verb)number;
			return true;
		}
	return false;
}

static bool read_flags(struct request *request, const char *word)
{
	request->tty = request->privileged = false;
	for (; word && *word; word++)
		if (*word == 't')
			request->tty = true;
		else if (*word == 'p')
			request->privileged = true;
		else
			return false;
	return word;
}

/* The words after the fixed ones: as many arguments as `count` says, then the environment. */
static bool read_table(struct request *request, struct words *words, uint32_t count)
{
	size_t used = 0;

	request->words = request->table;
	for (; used < count; used++)
		if (!(request->table[used] = next(words)))
			return false;
	request->table[used++] = NULL;
	request->env = request->table + used;
	for (; words->at && words->at < words->end; used++) {
		if (used > REQUEST_WORDS)
			return false;
		if (!(request->table[used] = next(words)))
			return false;
	}
	request->table[used] = NULL;
	return true;
}

int request_parse(struct request *request, char *text, size_t length)
{
	struct words words = {text, text + length};
	uint32_t rows, columns, count;
	bool is_whole = length && !text[length - 1] && read_verb(request, next(&words)) &&
			(request->root = next(&words)) && read_flags(request, next(&words)) &&
			next_number(&words, UINT32_MAX - 1, &request->uid) &&
			next_number(&words, UINT32_MAX - 1, &request->gid) && next_number(&words, 65535, &rows) &&
			next_number(&words, 65535, &columns) && (request->cwd = next(&words)) &&
			next_number(&words, REQUEST_WORDS - 1, &count) && read_table(request, &words, count);

	if (!is_whole || (*request->root && *request->root != '/') || (count == 0 && request->verb == VERB_EXEC))
		return -1;
	request->rows = (uint16_t)rows;
	request->columns = (uint16_t)columns;
	return 0;
}
