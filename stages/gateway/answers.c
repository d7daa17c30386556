#include "stages/gateway/answers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/lanes.h"
#include "stages/gateway/reader.h"

#define CHUNK_ANSWERS 64u

struct answers_chunk {
        struct answers_chunk *next;
        struct answer answers[CHUNK_ANSWERS];
};

int answers_init(struct answers *answers, uint32_t limit) {
        uint32_t n = 64;

        while (n < limit && n < 1u << 22)
                n *= 2;
        *answers = (struct answers){.mask = n - 1, .limit = limit};
        answers->by_req = calloc(n, sizeof(*answers->by_req));
        answers->by_id = calloc(n, sizeof(*answers->by_id));
        if (answers->by_req && answers->by_id)
                return 0;
        answers_close(answers);
        return -ENOMEM;
}

void answers_close(struct answers *answers) {
        while (answers->chunks) {
                struct answers_chunk *chunk = answers->chunks;

                answers->chunks = chunk->next;
                free(chunk);
        }
        free(answers->by_req);
        free(answers->by_id);
        *answers = (struct answers){0};
}

/* ---- the two tables ---- */

static uint32_t req_place(const struct answers *answers, uint64_t req_id) {
        return (uint32_t)(req_id * 0x9e3779b97f4a7c15ull >> 32) & answers->mask;
}

struct answer *answers_by_req(const struct answers *answers, uint64_t req_id) {
        struct answer *a = answers->by_req[req_place(answers, req_id)];

        while (a && a->req_id != req_id)
                a = a->next_by_req;
        return a;
}

struct answer *answers_by_id(const struct answers *answers, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id) {
        struct answer *a = answers->by_id[(uint32_t)id_hash & answers->mask];

        for (; a; a = a->next_by_id)
                if (a->id_hash == id_hash && a->id_len == id.n && a->tenant_len == tenant.n &&
                                memcmp(a->id, id.p, id.n) == 0 &&
                                memcmp(a->tenant, tenant.p, tenant.n) == 0)
                        return a;
        return NULL;
}

void answer_number(struct gateway *gw, struct answer *a, uint64_t req_id) {
        struct answer **at = &gw->answers.by_req[req_place(&gw->answers, req_id)];

        assert(a->req_id == 0 && req_id != 0);
        a->req_id = req_id;
        a->next_by_req = *at;
        *at = a;
}

void answer_name(struct gateway *gw, struct answer *a, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id) {
        struct answer **at = &gw->answers.by_id[(uint32_t)id_hash & gw->answers.mask];

        assert(!a->named && id.n <= sizeof(a->id) && tenant.n <= sizeof(a->tenant));
        a->id_hash = id_hash;
        a->id_len = (uint16_t)id.n;
        a->tenant_len = (uint16_t)tenant.n;
        memcpy(a->id, id.p, id.n);
        memcpy(a->tenant, tenant.p, tenant.n);
        a->named = true;
        a->next_by_id = *at;
        *at = a;
}

void answer_unname(struct gateway *gw, struct answer *a) {
        struct answer **at = &gw->answers.by_id[(uint32_t)a->id_hash & gw->answers.mask];

        if (!a->named)
                return;
        while (*at != a)
                at = &(*at)->next_by_id;
        *at = a->next_by_id;
        a->named = false;
}

static void unnumber(struct gateway *gw, struct answer *a) {
        struct answer **at = &gw->answers.by_req[req_place(&gw->answers, a->req_id)];

        if (a->req_id == 0)
                return;
        while (*at != a)
                at = &(*at)->next_by_req;
        *at = a->next_by_req;
        a->req_id = 0;
}

/* ---- life ---- */

static void on_deadline(struct loop_timer *timer) {
        struct answer *a = timer->owner;

        answer_cancel(a->gateway, a, CANCEL_DEADLINE);
}

static bool chunk_add(struct answers *answers) {
        struct answers_chunk *chunk = malloc(sizeof(*chunk));

        if (!chunk)
                return false;
        chunk->next = answers->chunks;
        answers->chunks = chunk;
        for (uint32_t i = 0; i < CHUNK_ANSWERS; i++) {
                chunk->answers[i].next_by_req = answers->free;
                answers->free = &chunk->answers[i];
        }
        return true;
}

struct answer *answer_new(
                struct gateway *gw, uint64_t id_hash, struct mr_view tenant, struct mr_view id) {
        struct answers *answers = &gw->answers;
        struct answer *a;

        if (answers->n >= answers->limit || (!answers->free && !chunk_add(answers)))
                return NULL;
        a = answers->free;
        answers->free = a->next_by_req;
        answers->n++;
        /* The texts at the end are only read up to their lengths. */
        memset(a, 0, offsetof(struct answer, id));
        a->slot = ADMISSION_NONE;
        a->response = LOG_NONE;
        a->gateway = gw;
        a->deadline = (struct loop_timer){.fn = on_deadline, .owner = a};
        if (id.n > 0)
                answer_name(gw, a, id_hash, tenant, id);
        return a;
}

void answer_free(struct gateway *gw, struct answer *a) {
        assert(!a->readers && !a->waiting && !a->dirty && !a->cancel_due);
        loop_timer_clear(gw->w->loop, &a->deadline);
        if (a->req_id != 0)
                follow_remove(gw->table.shm, a->req_id);
        answer_unname(gw, a);
        unnumber(gw, a);
        a->next_by_req = gw->answers.free;
        gw->answers.free = a;
        gw->answers.n--;
}

void answer_dirty(struct gateway *gw, struct answer *a) {
        if (a->dirty)
                return;
        a->dirty = true;
        a->next_dirty = NULL;
        *gw->dirty_end = a;
        gw->dirty_end = &a->next_dirty;
}

void answers_dirty_lane(struct gateway *gw, uint32_t lane) {
        for (uint32_t i = 0; i <= gw->answers.mask; i++)
                for (struct answer *a = gw->answers.by_req[i]; a; a = a->next_by_req)
                        if (a->lane == lane)
                                answer_dirty(gw, a);
}

void answers_orphans(struct gateway *gw) {
        for (uint32_t i = 0; i <= gw->answers.mask; i++)
                for (struct answer *a = gw->answers.by_req[i]; a; a = a->next_by_req)
                        reader_orphan(gw, a);
}

/* ---- what others hold ---- */

/* A request that runs under another gateway, or one of a log: known here from now on. */
static int answer_adopt(struct gateway *gw, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id, uint64_t req_id, uint32_t lane, bool finished,
                struct answer **ret) {
        struct answer *a = answers_by_req(&gw->answers, req_id);

        if (!a) {
                a = answer_new(gw, id_hash, tenant, id);
                if (!a)
                        return ANSWER_E_FULL;
                a->where = finished ? ANSWER_FINISHED : ANSWER_ELSEWHERE;
                a->lane = lane;
                answer_number(gw, a, req_id);
                if (!finished && follow_add(gw->table.shm, req_id) != 0) {
                        answer_free(gw, a);
                        return ANSWER_E_FULL;
                }
        } else if (!a->named) {
                answer_name(gw, a, id_hash, tenant, id);
        }
        /* Whoever looks at it without reading leaves it to the turn to free it. */
        answer_dirty(gw, a);
        *ret = a;
        return 0;
}

static int find_in_gateways(struct gateway *gw, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id, struct answer **ret) {
        for (uint32_t g = 0; g < GATEWAY_SLOTS_MAX; g++) {
                const struct admission_view *view = &gw->w->admissions[g];
                struct admission_slot slot;
                uint32_t i;
                int r;

                if (g == gw->slot || !view->shm ||
                                admission_find_id(view, tenant.p, tenant.n, id.p, id.n, &i) != 0 ||
                                table_peek(view, i, &slot) != 0 || slot.lane >= gw->n_lanes)
                        continue;
                /* Of a lane that was reset: its gateway has not noticed yet, or we have not. */
                if (!lane_is_here(gw, slot.lane) || slot.lane_gen != gw->lane_gen[slot.lane])
                        continue;
                r = answer_adopt(gw, id_hash, tenant, id,
                                atomic_load_explicit(&slot.req_id, memory_order_relaxed), slot.lane,
                                false, ret);
                if (r != 0)
                        return r;
                (*ret)->detached = slot.flags & ADMISSION_DETACHED;
                memcpy((*ret)->digest, slot.digest, sizeof(slot.digest));
                return 0;
        }
        return ANSWER_E_NONE;
}

/* The newest response of any log with that id; NULL: there is none. */
static const struct log_response *newest_in_logs(const struct gateway *gw, struct mr_view tenant,
                struct mr_view id, uint32_t *ret_lane, uint32_t *ret_response) {
        const struct log_response *found = NULL;
        uint64_t newest = 0;

        for (uint32_t l = 0; l < gw->n_lanes; l++) {
                const struct log_response *at;
                uint64_t created;
                uint32_t i;

                if (!lane_is_here(gw, l) || log_find_id(&gw->w->logs[l], tenant.p, tenant.n, id.p,
                                                            id.n, &i) != 0)
                        continue;
                at = &gw->w->logs[l].shm->responses[i];
                created = atomic_load_explicit(&at->created_ns, memory_order_relaxed);
                if (found && created < newest)
                        continue;
                found = at;
                newest = created;
                *ret_lane = l;
                *ret_response = i;
        }
        return found;
}

bool answer_is_logged(const struct gateway *gw, struct mr_view tenant, struct mr_view id) {
        uint32_t lane = 0, response = 0;
        const struct log_view *view;
        enum log_state state;

        if (!newest_in_logs(gw, tenant, id, &lane, &response))
                return false;
        view = &gw->w->logs[lane];
        state = log_response_state(view, response);
        return state == LOG_OPEN || (state == LOG_FINISHED && log_response_outcome(view, response) !=
                                                                        LOG_OUTCOME_RETRYABLE);
}

/* A detached answer that has ended, and whose beginning only the database has. */
static bool is_cut(const struct gateway *gw, uint32_t lane, uint32_t response) {
        const struct log_view *view = &gw->w->logs[lane];

        return lane_is_here(gw, lane) && log_response_state(view, response) == LOG_FINISHED &&
               log_response_detached(view, response) && !log_has_beginning(view, response);
}

struct answer *answer_named(const struct gateway *gw, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id) {
        struct answer *a = answers_by_id(&gw->answers, id_hash, tenant, id);

        return a && a->response != LOG_NONE && is_cut(gw, a->lane, a->response) ? NULL : a;
}

static int find_in_logs(struct gateway *gw, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id, struct answer **ret) {
        uint32_t lane = 0, response = 0;
        const struct log_response *found = newest_in_logs(gw, tenant, id, &lane, &response);
        enum log_state state;
        uint64_t req_id;
        int r;

        if (!found)
                return ANSWER_E_NONE;
        /* SYNC(log.create): the request's number is stored last. */
        req_id = atomic_load_explicit(&found->req_id, memory_order_acquire);
        state = log_response_state(&gw->w->logs[lane], response);
        if (req_id == 0 || state == LOG_FREE)
                return ANSWER_E_NONE;
        if (log_is_restoring(&gw->w->logs[lane], response))
                return ANSWER_E_NONE; /* who asked for it is told when it is whole */
        if (state == LOG_EVICTED || is_cut(gw, lane, response))
                return ANSWER_E_GONE;
        r = answer_adopt(gw, id_hash, tenant, id, req_id, lane, state == LOG_FINISHED, ret);
        if (r != 0)
                return r;
        (*ret)->response = response;
        (*ret)->detached = log_response_detached(&gw->w->logs[lane], response);
        log_response_digest(&gw->w->logs[lane], response, (*ret)->digest);
        return 0;
}

int answer_find_elsewhere(struct gateway *gw, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id, struct answer **ret) {
        int r = find_in_gateways(gw, id_hash, tenant, id, ret);

        /* In this order: the way a request moves. */
        return r == ANSWER_E_NONE ? find_in_logs(gw, id_hash, tenant, id, ret) : r;
}

int answer_find(struct gateway *gw, struct mr_view tenant, struct mr_view id, struct answer **ret) {
        uint64_t id_hash = log_id_hash(tenant.p, tenant.n, id.p, id.n);
        struct answer *a = answer_named(gw, id_hash, tenant, id);

        if (!a)
                return answer_find_elsewhere(gw, id_hash, tenant, id, ret);
        *ret = a;
        return 0;
}

/* ---- cancelling ---- */

static void cancel_later(struct gateway *gw, struct answer *a, enum cancel_reason reason) {
        a->cancel = (uint8_t)reason;
        if (a->cancel_due)
                return;
        a->cancel_due = true;
        a->next_cancel = gw->cancels;
        gw->cancels = a;
}

void answer_cancel(struct gateway *gw, struct answer *a, enum cancel_reason reason) {
        if (a->where != ANSWER_OPEN && a->where != ANSWER_ELSEWHERE)
                return;
        /* A mark says that the client wants no more; a deadline ends in another error, and
         * inference knows that time itself. */
        if (reason != CANCEL_DEADLINE)
                follow_mark(gw->table.shm, a->req_id, FOLLOW_CANCELLED, 0);
        if (a->cancel != 0 && a->cancel != CANCEL_DEADLINE)
                return;
        cancel_later(gw, a, reason);
}

void answer_stop(struct gateway *gw, struct answer *a) {
        cancel_later(gw, a, CANCEL_LOST);
}

/* True: nothing more is due. */
static bool cancel_send(struct gateway *gw, struct answer *a) {
        struct worker_out *out = gw->to_inference[a->lane];
        struct record record = {.has = HAS(reason), .reason = a->cancel};
        struct ring_meta meta = {.type = RECORD_CANCEL, .flags = RING_LAST, .req_id = a->req_id};
        uint32_t len = record_size_bound(&record);
        uint8_t *to;
        int r;

        if (a->where == ANSWER_FINISHED && (a->cancel != CANCEL_LOST || !lane_is_here(gw, a->lane)))
                return true;
        r = ring_tx_begin(&out->tx, len, &to);
        if (r == RING_E_BATCH) {
                ring_tx_commit(&out->tx);
                r = ring_tx_begin(&out->tx, len, &to);
        }
        if (r < 0)
                worker_fail_lane(gw->w, a->lane, "cancel ring", r);
        if (r != 0) {
                out->blocked = true;
                out->want_bytes = len;
                return false;
        }
        if (record_encode(&record, to, len, &len) < 0)
                return true;
        ring_tx_end(&out->tx, &meta, len);
        return true;
}

unsigned cancels_turn(struct gateway *gw) {
        struct answer *a = gw->cancels, *kept = NULL;
        unsigned n = 0;

        while (a) {
                struct answer *next = a->next_cancel;

                if (cancel_send(gw, a)) {
                        a->cancel_due = false;
                        n++;
                        if (a->where == ANSWER_FINISHED)
                                answer_dirty(gw, a); /* it stayed for this */
                } else {
                        a->next_cancel = kept;
                        kept = a;
                }
                a = next;
        }
        gw->cancels = kept;
        return n;
}
