/* Processes that the kernel does not let go. */
#ifndef BOOTMATRIX_STUCK_H
#define BOOTMATRIX_STUCK_H

/* Describe a process in uninterruptible sleep, such as `sync (12) in jbd2_log_wait_commit`, as a new text; empty if there
 * is none. */
char *stuck_process(void);

#endif
