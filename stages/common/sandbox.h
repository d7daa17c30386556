/*
 * sandbox -- what a worker gives up before it touches memory that others write.
 *
 * Shape   sandbox_enter() runs after the stage's init and before attach; the loop's ring is still
 *         disabled then, so that restrictions of its own can be registered on it
 * Owner   the worker; nothing can be taken back
 * Errors  0 or -errno: a worker does not run outside its sandbox
 */
#pragma once

struct worker;

/* Closes every descriptor above `last`. */
int sandbox_close_above(int last);
/* No core files (they would hold prompts), private memory at most memory.worker_cap_bytes, no new
 * privileges, not dumpable (no ptrace and no /proc/<pid>/fd for others of the same user). */
int sandbox_enter(struct worker *w);
