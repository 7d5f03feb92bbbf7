/* The event loop: ends of processes, outputs, requests, the console. */
#ifndef BOOTMATRIX_LOOP_H
#define BOOTMATRIX_LOOP_H

#include <stdint.h>

/* Begin to collect ended processes. */
void open_loop(void);

/* Wait until something happens, or a time; handle it. */
void pump(int64_t until_ms);

/* Handle the ends of all processes that have ended by now. */
void take_ends(void);

#endif
