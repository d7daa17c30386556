/*
 * frames_conn -- what frames.c (input, life) and frames_output.c share about one connection.
 *
 * Shape   functions over struct conn, for these two files alone
 * Units   bytes
 * Owner   frames.c makes and frees connections
 * Errors  none: a connection that cannot go on is closed
 * Limits  as frames.h
 */
#pragma once

#include "stages/gateway/frames.h"

/* Into the list of those with input, with output; no-op when it is there. */
void conn_ready(struct conn *c);
void conn_dirty(struct conn *c);
/* Ends it now; conn_reap() frees it once the kernel has let go of it and no list names it. */
void conn_close(struct conn *c);
void conn_reap(struct conn *c);
/* Closes it when there is nothing left that could make output. */
void conn_close_when_done(struct conn *c);
/* Asks for more input when there is room for it and the client reads what it is sent. */
void conn_recv(struct conn *c);

uint32_t conn_pending(const struct conn *c); /* bytes of output that are not out */
void conn_out_shrink(struct conn_out *out);
void conn_on_sent(struct loop_op *op, int res, uint32_t cqe_flags);
/* Its output waits no longer (it is out, or it will never be). */
void conn_later_end(struct conn *c);
void frames_on_later(struct loop_timer *timer);
