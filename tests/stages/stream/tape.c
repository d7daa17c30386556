#include "tests/stages/stream/tape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <check.h>

#include "stages/common/record.h"

/* Not one of Check's assertions: they report through a pipe, in which a killed child would leave a part. */
#define REQUIRE(truth)                                                                             \
        do {                                                                                       \
                if (!(truth)) {                                                                    \
                        fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #truth);  \
                        abort();                                                                   \
                }                                                                                  \
        } while (0)

/* ---- a log ------------------------------------------------------------------------------------- */

struct rig rig_new(uint64_t budget) {
        struct rig rig = {.bytes = log_bytes(budget, NULL, NULL)};

        rig.map = mmap(NULL, rig.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        REQUIRE(rig.map != MAP_FAILED);
        log_format(rig.map, budget, 0);
        REQUIRE(response_log_attach(&rig.log, rig.map, rig.bytes) == 0);
        REQUIRE(log_view_init(&rig.view, rig.map, rig.bytes) == 0);
        return rig;
}

void rig_attach(struct rig *rig) {
        response_log_close(&rig->log);
        REQUIRE(response_log_attach(&rig->log, rig->map, rig->bytes) == 0);
}

void rig_close(struct rig *rig) {
        response_log_close(&rig->log);
        munmap(rig->map, rig->bytes);
}

uint32_t rig_create(struct rig *rig, uint64_t req_id, uint64_t in_seq, bool detached) {
        char id[32];
        struct response_head head = {.req_id = req_id,
                        .in_seq = in_seq,
                        .now_ns = in_seq,
                        .id = id,
                        .tenant = "local",
                        .tenant_len = 5,
                        .digest = {req_id, ~req_id},
                        .detached = detached};
        uint32_t response = LOG_NONE;
        int r;

        head.id_len = (uint32_t)snprintf(id, sizeof(id), "id-%llu", (unsigned long long)req_id);
        r = response_log_create(&rig->log, &head, &response);
        REQUIRE(r == 0 || r == RESPONSE_E_KNOWN);
        return response;
}

uint64_t rig_last(const struct rig *rig, uint32_t response) {
        const struct log_response *entry = &rig->log.shm->responses[response];
        uint64_t end = atomic_load_explicit(&entry->end, memory_order_relaxed);

        return entry->tail[entry->tail[0].end == end ? 0 : 1].seq;
}

static int write_event(struct rig *rig, uint64_t req_id, uint64_t in_seq, uint32_t len,
                uint64_t outcome, bool hold) {
        uint8_t *payload = malloc(len + 1);
        uint16_t type = outcome ? RECORD_DONE : RECORD_DELTA;
        uint32_t response;
        int r;

        REQUIRE(payload);
        REQUIRE(response_log_find(&rig->log, req_id, &response) == 0);
        pattern_fill(payload, req_id, rig_last(rig, response) + 1, len);
        r = hold ? response_log_hold(&rig->log, response, in_seq, type, payload, len, outcome)
                 : response_log_append(&rig->log, response, in_seq, type, payload, len, outcome,
                                   in_seq);
        free(payload);
        return r;
}

int rig_append(struct rig *rig, uint64_t req_id, uint64_t in_seq, uint32_t len, uint64_t outcome) {
        return write_event(rig, req_id, in_seq, len, outcome, false);
}

int rig_hold(struct rig *rig, uint64_t req_id, uint64_t in_seq, uint32_t len) {
        return write_event(rig, req_id, in_seq, len, LOG_OUTCOME_DONE, true);
}

/* ---- patterns ---------------------------------------------------------------------------------- */

/* Word by word: the tests that step through every instruction step through this too. */
static uint64_t pattern(uint64_t req_id, uint64_t seq, uint32_t word) {
        return (req_id * 131 + seq) * 0x9e3779b97f4a7c15ull + word * 0x0101010101010103ull;
}

void pattern_fill(uint8_t *to, uint64_t req_id, uint64_t seq, uint32_t len) {
        for (uint32_t i = 0; i < len; i += 8) {
                uint64_t word = pattern(req_id, seq, i / 8);
                memcpy(to + i, &word, len - i < 8 ? len - i : 8);
        }
}

bool pattern_is(const uint8_t *bytes, uint64_t req_id, uint64_t seq, uint32_t len) {
        for (uint32_t i = 0; i < len; i += 8) {
                uint64_t word = pattern(req_id, seq, i / 8);
                if (memcmp(bytes + i, &word, len - i < 8 ? len - i : 8))
                        return false;
        }
        return true;
}

uint64_t tape_random(uint64_t *state) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

/* ---- the tape ---------------------------------------------------------------------------------- */

struct tape_input tape_at(uint64_t s, uint32_t max_len) {
        uint64_t lane = s % TAPE_LANES, n = s / TAPE_LANES, state = s * 0x9e3779b97f4a7c15ull | 1;
        struct tape_input input = {
                        .req_id = 1 + lane + TAPE_LANES * (n / TAPE_STEPS), .seq = n % TAPE_STEPS};

        tape_random(&state);
        input.len = (uint32_t)(tape_random(&state) % (tape_random(&state) % 8 ? 100 : max_len));
        input.type = input.seq == 0                ? RECORD_REQUEST
                     : input.seq == TAPE_STEPS - 1 ? RECORD_DONE
                                                   : RECORD_DELTA;
        return input;
}

uint64_t tape_input_of(uint64_t req_id, uint64_t seq) {
        uint64_t lane = (req_id - 1) % TAPE_LANES, turn = (req_id - 1) / TAPE_LANES;

        return (turn * TAPE_STEPS + seq) * TAPE_LANES + lane;
}

void tape_write(struct rig *rig, uint64_t s, uint32_t max_len) {
        struct tape_input input = tape_at(s, max_len);
        uint32_t response;
        int r;

        if (input.type == RECORD_REQUEST) {
                rig_create(rig, input.req_id, s, false);
                return;
        }
        r = response_log_find(&rig->log, input.req_id, &response);
        if (r) /* the first inputs belong to heads that lie before the tape's start */
                return;
        r = rig_append(rig, input.req_id, s, input.len,
                        input.type == RECORD_DONE ? LOG_OUTCOME_DONE : 0);
        REQUIRE(r == 0 || r == RESPONSE_E_KNOWN);
}

bool tape_read(const struct log_view *view, uint64_t req_id, uint32_t max_len, uint64_t *ret_last) {
        static _Thread_local uint8_t buf[LOG_EVENT_MAX];
        struct log_cursor cursor;
        struct log_event_head head;
        uint32_t response;
        uint64_t last = 0;
        int r = log_find(view, req_id, &response);

        if (r == 0)
                r = log_open(view, req_id, response, 0, &cursor);
        if (r)
                return false;
        while ((r = log_next(view, &cursor, &head, buf, sizeof(buf))) == 0) {
                ck_assert_uint_eq(head.seq, last + 1);
                last = head.seq;
                ck_assert_uint_eq(head.in_seq, tape_input_of(req_id, head.seq));
                struct tape_input input = tape_at(head.in_seq, max_len);
                ck_assert_uint_eq(head.len, input.len);
                ck_assert_uint_eq(head.type, input.type);
                ck_assert(pattern_is(buf, req_id, head.seq, head.len));
        }
        *ret_last = last;
        return r == LOG_E_AGAIN;
}

uint64_t tape_check(const struct log_view *view, uint64_t first, uint64_t s, uint32_t max_len,
                bool keeps_all) {
        uint64_t last_req = 0, n_read = 0;
        unsigned ahead = 0;

        for (uint64_t lane = 0; lane < TAPE_LANES; lane++) {
                uint64_t newest = tape_at(s >= TAPE_LANES ? s - 1 - lane : s, max_len).req_id;
                last_req = newest > last_req ? newest : last_req;
        }
        for (uint64_t req = 1; req <= last_req; req++) {
                uint64_t last = 0, must = 0;
                if (tape_input_of(req, 0) < first || tape_input_of(req, 0) >= s)
                        continue; /* its head lies before the tape, or is not written yet */
                while (must + 1 < TAPE_STEPS && tape_input_of(req, must + 1) < s)
                        must++;
                if (!tape_read(view, req, max_len, &last)) {
                        ck_assert_msg(!keeps_all, "response %llu is gone", (unsigned long long)req);
                        continue;
                }
                if (last == must + 1 && tape_input_of(req, last) == s)
                        ahead++;
                else
                        ck_assert_uint_eq(last, must);
                n_read += last;
        }
        ck_assert_uint_le(ahead, 1);
        return n_read;
}
