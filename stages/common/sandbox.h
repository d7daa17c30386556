/*
 * sandbox -- what a worker gives up before it touches memory that others write.
 *
 * Shape   sandbox_enter() runs after the stage's init and before attach: limits, no new privileges,
 *         io_uring restricted and enabled, Landlock, not dumpable, seccomp. What each role keeps is
 *         a row of sandbox_table.c
 * Owner   the worker; nothing can be taken back. Threads that run before would be outside of it, so
 *         they are started in attach or later
 * Errors  0, -errno, SANDBOX_E_*: a worker does not run outside its sandbox. A kernel without
 *         Landlock is gone on with, and the supervisor says so
 */
#pragma once

struct worker;

enum sandbox_error {
        SANDBOX_E_SECCOMP = 1, /* the kernel takes no filter: sandbox_remedy() */
        SANDBOX_E_THREADS,     /* the stage's init has started a thread */
};

/* Closes every descriptor above `last`. */
int sandbox_close_above(int last);
int sandbox_enter(struct worker *w);
/* One line for the user: what, why, remedy. */
const char *sandbox_remedy(enum sandbox_error error);
