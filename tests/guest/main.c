/* Tests of the guest's program: units … or mutate … */
#include <string.h>

#include "drivers.h"

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "units") == 0)
		return units_main(argc - 1, argv + 1);
	if (argc == 7 && strcmp(argv[1], "mutate") == 0)
		return mutate_main(argc - 1, argv + 1);
	return 2;
}
