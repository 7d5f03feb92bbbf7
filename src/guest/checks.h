/* Checks: containers whose end decides, with a limit of time each. */
#ifndef BOOTMATRIX_CHECKS_H
#define BOOTMATRIX_CHECKS_H

#include <stdbool.h>
#include <stdint.h>

#include "runs.h"

/* Seconds of a name in a file of names and seconds; `otherwise` if it is not listed. */
int64_t listed_seconds(const char *path, const char *name, int64_t otherwise);

/* Whether a container of a spec's services is a check. */
bool is_check(const char *name);

void start_checks(void);

/* Whether a check was not reported yet. */
bool has_open_checks(void);

/* Handle the end of a check. */
void check_ended(struct run *run);

/* Fail the guest if a check has skipped its tests. */
void fail_skipped_checks(void);

/* Fail checks whose time is over. */
void expire_checks(void);

/* Report checks whose end and whole output are known. */
void report_checks(void);

/* Report checks whose end is known. */
void report_ended_checks(void);

#endif
