/* The guest's own program: PID 1, and by its name the hook of the OCI runtime. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent_keeper.h"
#include "hook.h"
#include "init.h"

int main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";

	if (strcmp(name, "hook") == 0)
		return hook_main(argc, argv);
	if (strcmp(name, KEEPER_NAME) == 0)
		return keeper_main(argc, argv);
	if (getpid() == 1)
		init();
	fputs("bootmatrix: this program is a guest's PID 1\n", stderr);
	return 2;
}
