/*
 * reader -- a client's cursor over the log of one answer.
 *
 * Shape   answers with news are dirty; a turn pumps a bounded number of events from their readers'
 *         cursors into the connections' outputs
 * Owner   struct gateway; a reader leaves with its terminal event, its client, or an eviction
 * Errors  told to the client: `gone` when the log moved on
 * Limits  GATEWAY_EVENTS_*; a reader whose client does not read waits, and nobody else does
 */
#pragma once

#include "stages/gateway/gateway.h"

int readers_init(struct readers *readers, uint32_t limit);
void readers_close(struct readers *readers);

struct reader *reader_find(const struct client *client, const struct answer *a);
/* NULL: too many. The follow table says that somebody reads before the log is looked at. */
struct reader *reader_add(struct gateway *gw, struct client *client, struct answer *a,
                enum reader_kind kind, uint64_t after);
void reader_remove(struct gateway *gw, struct reader *r);

/* The answer has its number now: its readers are counted in the follow table. */
void readers_follow(struct gateway *gw, struct answer *a);
/* `accepted` to everybody who waits for it. */
void readers_accept(struct gateway *gw, struct answer *a);
void readers_move(struct gateway *gw, struct answer *from, struct answer *to);
/* The client is gone; requests that nobody else reads are cancelled. */
void readers_gone(struct gateway *gw, struct client *client);
/* Cancels it when it is attached to clients and none is left, here or at another gateway. */
void reader_orphan(struct gateway *gw, struct answer *a);

/* Events of dirty answers; closes slots whose answers ended. How many events and answers. */
unsigned readers_turn(struct gateway *gw);
/* What the client's output held up goes on. */
void readers_resume(struct gateway *gw, struct client *client);
/* Its last word: an error with the number that the next event would have had. */
void reader_fail(struct gateway *gw, struct reader *r, enum mr_error code, const char *message,
                uint64_t retry_after_ms);
/* One `draining` error to every reader. */
void readers_cut(struct gateway *gw);
/* The whole answer as it stands, to one client. */
void reader_result(struct gateway *gw, struct client *client, struct answer *a);
