/* PID 1: from the first mount to the exit of QEMU. */
#ifndef BOOTMATRIX_INIT_H
#define BOOTMATRIX_INIT_H

_Noreturn void init(void);

#endif
