/*
 * stream -- what the files of this stage share.
 *
 * Shape   struct stream: the log, its notices, and what is under way to the database
 * Owner   the process; everything but the database's own thread is single-threaded
 * Errors  none of its own
 * Limits  STREAM_TOUCHED responses with news a turn
 */
#pragma once

#include "stages/common/stage.h"
#include "stages/stream/database.h"
#include "stages/stream/response_log.h"

#define STREAM_TOUCHED (3 * TURN_RECORDS)
#define STREAM_LOOKUPS_MAX 64u
#define STREAM_LETTERS_MAX 64u

struct stream_touched {
        uint64_t req_id;
        uint32_t response;
};

/* An id that a gateway asked for; in the ring until its answer is out. */
struct stream_lookup {
        struct stream_lookup *next;
        struct worker_in *in;
        uint64_t seq, number; /* the number that the response gets here */
        uint32_t gateway;
        struct database_job *job; /* NULL: the thread has it */
        uint64_t at;              /* bytes of its events that are in the log */
};

struct stream {
        struct response_log log;
        struct ring_rx *rx;
        struct ring_msg held; /* an input that the log had no room for; seq 0: none */
        struct worker_out *notices[GATEWAY_SLOTS_MAX];
        struct stream_touched touched[STREAM_TOUCHED]; /* responses with news in this turn */
        uint32_t n_touched;
        bool touched_more; /* than that */
        struct loop_timer expire;
        bool said_unknown, said_no_thread;

        struct database *database; /* NULL: stream.database is none */
        struct database_state state;
        uint32_t n_stores; /* under way */
        STAILQ_HEAD(, database_job) letters; /* and turns, that could not be stored */
        uint32_t n_letters;
        struct stream_lookup lookups[STREAM_LOOKUPS_MAX], *free_lookups, *answers, **answers_end;
        uint32_t n_lookups;
        struct stream_lookup *restoring; /* whose response is written into the log; the others wait */
};
