/*
 * Stream: what it makes is the response log. Its consumer is a gateway that sleeps until it is rung, and then
 * reads the responses that a notice names, or all when `missed` says so: the ring of notices holds one.
 *
 * Two of four requests are detached and run anew in their middle. One has a reader, and ends in an error; the
 * other one is read when it has ended, and has begun again at its first event.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/steps/hop.h"

#define STEPS 6u
#define RESTART_STEP 3u

static bool is_read(uint64_t req) {
        return req % 4 == 3;
}

static bool is_dropped(uint64_t req) {
        return req % 4 == 2;
}

static uint32_t input(uint64_t n, struct ring_meta *meta, uint8_t *to) {
        uint64_t pair = (n - 1) / (2 * STEPS), step = (n - 1) % (2 * STEPS) / 2;
        uint64_t req = 2 * pair + 1 + (n - 1) % 2;
        struct record record = {.has = 0};
        char id[16], text[64];

        snprintf(id, sizeof(id), "id-%u", (unsigned)req);
        snprintf(text, sizeof(text), "delta %u of request %u ", (unsigned)step, (unsigned)req);
        *meta = (struct ring_meta){.type = RECORD_DELTA, .req_id = req, .ord = (uint32_t)step};
        if (step == 0) {
                meta->type = RECORD_REQUEST;
                record.has = HAS(gateway) | HAS(id) | HAS(tenant);
                record.id = hop_view(id);
                record.tenant = hop_view("local");
                if (is_read(req) || is_dropped(req)) {
                        record.has |= HAS(options);
                        record.options = OPTION_DETACH;
                }
        } else if (step == RESTART_STEP && (is_read(req) || is_dropped(req))) {
                meta->type = RECORD_RESTART;
                record.has = HAS(code) | HAS(message);
                record.code = MR_E_worker_restarted;
                record.message = hop_view("lost");
        } else if (step + 1 < STEPS) {
                record.has = HAS(text);
                record.text = hop_view(text);
        } else {
                meta->type = RECORD_DONE;
                meta->flags = RING_LAST;
                record.has = HAS(finish_reason);
                record.finish_reason = hop_view("stop");
        }
        return hop_put_record(&record, to);
}

static void read_response(uint64_t req) {
        static uint8_t buf[LOG_EVENT_MAX];
        struct log_cursor cursor;
        struct log_event_head head;
        uint32_t response;
        int r = log_find(&hop.log_view, req, &response);

        if (r != 0)
                return; /* not begun */
        if (is_dropped(req) && log_response_state(&hop.log_view, response) != LOG_FINISHED)
                return;
        r = log_open(&hop.log_view, req, response, hop.side.request[req].n, &cursor);
        while (r == 0 && (r = log_next(&hop.log_view, &cursor, &head, buf, sizeof(buf))) == 0)
                hop_seen(req, head.seq - 1, hop_hash(head.type, buf, head.len),
                                head.type != RECORD_DELTA, MR_E_none);
        hop.side.n_wrong += r != LOG_E_AGAIN;
}

static void take(const struct ring_msg *msg) {
        if (msg->type != RECORD_NOTICE || msg->req_id == 0 || msg->req_id > HOP_REQUESTS)
                hop.side.n_wrong++;
        else
                read_response(msg->req_id);
}

static void woken(void) {
        uint64_t missed = atomic_load_explicit(&hop.log->missed[0], memory_order_seq_cst);

        if (missed == hop.side.missed)
                return;
        hop.side.missed = missed;
        for (uint64_t req = 1; req <= hop_case.n_inputs / STEPS; req++)
                read_response(req);
}

/* Its thread is the database's own business: what is stepped through is the loop's. And stepping may take
 * longer than finished responses are kept. */
static void settings(struct settings *s) {
        s->stream.response_ttl_s = 30 * 24 * 3600;
        free(s->stream.database);
        s->stream.database = strdup("none");
}

static bool right(void) {
        for (uint64_t req = 1; req <= hop.n_limit / STEPS; req++)
                if (hop.n_outputs[req] != (is_read(req)      ? RESTART_STEP
                                           : is_dropped(req) ? STEPS - RESTART_STEP - 1
                                                             : STEPS - 1))
                        return false;
        return true;
}

const struct hop_case hop_case = {
                .name = "stream",
                .role = ROLE_STREAM,
                .in = {.id = 1, .n = 8, .max_batch = 4, .max_rec = 1024, .bytes = 4096},
                .out = {.id = 2, .n = 2, .max_batch = 1, .max_rec = 64, .bytes = 4096},
                .log_budget = 320u << 10,
                .per_request = STEPS,
                .n_warm = 24,
                .n_inputs = 48,
                .is_read = is_read,
                .input = input,
                .take = take,
                .woken = woken,
                .right = right,
                .settings = settings,
};
