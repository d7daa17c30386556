/*
 * conn_own -- what conn.c (input, life) and conn_output.c share about one connection.
 *
 * Shape   functions over struct conn, for these two files alone
 * Units   bytes
 * Owner   conn.c makes and frees connections
 * Errors  none: a connection that cannot go on is closed
 * Limits  as conn.h
 */
#pragma once

#include "stages/gateway/conn.h"

/* Into the list of those with output; no-op when it is there. */
void conn_dirty(struct conn *c);
/* Frees it once it is CLOSING, the kernel has let go of it and no list names it. */
void conn_reap(struct conn *c);
/* Closes it when there is nothing left that could make output. */
void conn_close_when_done(struct conn *c);
/* Asks for more input when there is room for it and the client reads what it is sent. */
void conn_recv(struct conn *c);

uint32_t conn_pending(const struct conn *c); /* bytes of output that are not out */
/* Gives the buffer back. */
void conn_out_drop(struct conns *cs, struct conn_out *out);
void conns_spare_free(struct conns *cs);
void conn_on_sent(struct loop_op *op, int res, uint32_t cqe_flags);
/* Its output waits no longer (it is out, or it will never be). */
void conn_later_end(struct conn *c);
void conns_on_later(struct loop_timer *timer);
