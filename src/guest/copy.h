/* Guests that are copies of a template: docs/forked-guests.md. */
#ifndef BOOTMATRIX_COPY_H
#define BOOTMATRIX_COPY_H

#include <stdbool.h>

/* In the template: prepare all that copies have in common, tell the host on a channel, and wait. The host stops the
 * guest there; each copy of it goes on with what is its own. Return whether that succeeded; failures are printed. */
bool become_copy(int channel);

#endif
