#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int load(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	int error;

	if (file < 0)
		return errno;
	error = syscall(SYS_finit_module, file, "", 0) == 0 || errno == EEXIST ? 0 : errno;
	close(file);
	return error;
}

int load_modules(const char *list)
{
	char line[PATH_MAX];
	int failures = 0;
	FILE *file = fopen(list, "re");

	if (!file)
		return -1;
	while (fgets(line, sizeof line, file)) {
		int error;

		line[strcspn(line, "\n")] = '\0';
		error = load(line);
		if (!error)
			continue;
		printf("bootmatrix: cannot load %s: %s\n", line, strerror(error));
		fflush(stdout);
		failures++;
	}
	fclose(file);
	return failures;
}
