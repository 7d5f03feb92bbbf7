/* Checks: containers whose end decides, with a limit of time each. */
#ifndef BOOTMATRIX_CHECKS_H
#define BOOTMATRIX_CHECKS_H

#include <stdbool.h>

#include "runs.h"

/* Whether a container of a spec's services is a check. */
bool is_check(const char *name);

void start_checks(void);

/* Whether a check was not reported yet. */
bool has_open_checks(void);

/* Handle the end of a check. */
void check_ended(struct run *run);

/* Fail checks whose time is over. */
void expire_checks(void);

/* Report checks whose end and whole output are known. */
void report_checks(void);

/* Report checks whose end is known. */
void report_ended_checks(void);

#endif
