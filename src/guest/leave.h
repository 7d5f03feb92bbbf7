/* The end of a guest, and the beginning of one that is a copy. */
#ifndef BOOTMATRIX_LEAVE_H
#define BOOTMATRIX_LEAVE_H

/* Write all output and files, then leave QEMU: `way` is "poweroff", "reboot", "exit" (of an engine's
 * container: status 0 or 1) or "semihosting". The last has the exit
 * status 80 for a pass and 81 for a fail (docs/guest-protocol.md). A way that the machine lacks ends in a power off. */
_Noreturn void leave(const char *way, int is_pass);

/* Exit QEMU by Arm's semihosting with a status; returns where there is none. Without `-semihosting-config userspace=on`
 * the instruction is illegal: call it in a child process. */
void semihosting_exit(int status);

/* Set the kernel's timer anew, which QEMU loses of a copied guest on some machines: docs/findings.md. */
void rearm_timer(void);

/* Seed the kernel's random number generator anew with a text, and have all generators of it take the new seed.
 * Return 0, or -1 with errno. */
int reseed(const char *seed);

#endif
