/* A clock that is off by CLOCK_OFFSET_S seconds, for LD_PRELOAD. Unlike libfaketime it shares no memory with other
   processes: what a killed one leaves behind makes that fail later processes with the same number. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
	const char *offset_s = getenv("CLOCK_OFFSET_S");
	long failed = syscall(SYS_clock_gettime, clock, now);

	if (!failed && offset_s && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += atoll(offset_s);
	return (int)failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec time;

	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &time))
		return -1;
	now->tv_sec = time.tv_sec;
	now->tv_usec = time.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *result)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now))
		return -1;
	if (result)
		*result = now.tv_sec;
	return now.tv_sec;
}
