#include "stages/gateway/admit.h"

#include <errno.h>
#include <string.h>

#include "stages/gateway/answers.h"
#include "stages/gateway/reader.h"

/* Documents and pieces are added on the way: what leaves here fills half a record at most. */
#define RECORD_SHARE 2u

void admit_commit(struct gateway *gw, uint32_t lane) {
        struct ring_tx *tx = &gw->to_rag[lane]->tx;

        FAULT(gw->w, "before_commit", NULL, 0);
        ring_tx_commit(tx);
        FAULT(gw->w, "record_committed", NULL, 0);
        table_committed(&gw->table, lane, tx->committed);
}

/* Room for the record, or a reason to wait at the door. */
static int ring_reserve(struct gateway *gw, struct admit *ad) {
        struct worker_out *out = gw->to_rag[ad->lane];
        int r;

        /* The soft bound: the copy of tail is old, so that it is looked at only when it says no. */
        if (out->tx.next - out->tx.tail >= out->tx.map.geo.bound &&
                        ring_tx_depth(&out->tx) + ring_tx_pending(&out->tx) >=
                                        out->tx.map.geo.bound) {
                gw->over_bound[ad->lane] = true;
                return ADMIT_WAIT;
        }
        r = ring_tx_begin(&out->tx, ad->bound, &ad->to);
        if (r == RING_E_BATCH) {
                admit_commit(gw, ad->lane);
                r = ring_tx_begin(&out->tx, ad->bound, &ad->to);
        }
        if (r < 0)
                worker_fail_lane(gw->w, ad->lane, "rag ring", r);
        if (r != 0) {
                out->blocked = true;
                out->want_bytes = ad->bound;
                return ADMIT_WAIT;
        }
        return 0;
}

/* Between our first look at this id and our claim another gateway may have admitted it and seen its
 * end: then its slot is free again, and only the log knows. */
static bool has_run(struct gateway *gw, const struct answer *a) {
        return table_has_others(&gw->table) &&
               answer_is_logged(gw, (struct mr_view){a->tenant, a->tenant_len}, answer_id(a));
}

static int claim(struct gateway *gw, struct admit *ad) {
        struct answer *a = ad->a;
        uint32_t other_gateway, other_slot;
        struct table_claim wish = {.id = a->id,
                        .id_len = a->id_len,
                        .tenant = a->tenant,
                        .tenant_len = a->tenant_len,
                        .id_hash = a->id_hash};
        int r;

        if (ad->slot == ADMISSION_NONE) {
                if (gw->table.n_free == 0)
                        return ADMIT_WAIT;
                wish.req_id = table_next_request(&gw->table);
                if (table_claim(&gw->table, &wish, &ad->slot) != 0)
                        return ADMIT_WAIT;
        }
        /* Nobody else can have made the same 96 random bits. */
        if (ad->options & OPTION_ID_MADE)
                return 0;
        r = table_settle(&gw->table, ad->slot, &other_gateway, &other_slot);
        if (r == 0 && !has_run(gw, a))
                return 0;
        if (r != TABLE_E_WAIT) {
                /* Elsewhere, a lower gateway's, or over: the next look finds it there. */
                table_withdraw(&gw->table, ad->slot);
                ad->slot = ADMISSION_NONE;
        }
        return ADMIT_WAIT;
}

/* The body, where it does not travel in the record, and behind it room for a copy of the record: a stage
 * that gives the request up has neither. A body waits for room; a copy that there is no room for is not
 * made, unless what was asked is to be kept in a session. */
static int block_store(struct gateway *gw, struct admit *ad, const struct record *record) {
        const struct mr_view body = ad->composed->body;
        bool needed = record->options & OPTION_SESSION;
        uint64_t record_at;
        uint8_t *to;
        int r;

        ad->block = (struct arena_ref){0};
        ad->body_len = body.n > ADMIT_INLINE ? body.n : 0;
        record_at = admission_record_at(ad->body_len);
        r = arena_alloc(&gw->arena, (uint32_t)record_at + ad->bound, &ad->block, &to);
        ad->copy = r == 0 ? to + record_at : NULL;
        if (ad->body_len == 0 && (r == 0 || !needed)) {
                ad->block.slot = gw->slot;
                return 0;
        }
        if (r != 0 && !needed)
                r = arena_alloc(&gw->arena, body.n, &ad->block, &to);
        if (r != 0) {
                /* Nobody tells when /dev/shm has room again: then the door looks each time. */
                gw->door.arena_used = r == ARENA_E_THIN ? DOOR_LOOK : gw->arena.used_bytes;
                return ADMIT_WAIT;
        }
        ad->block.slot = gw->slot;
        memcpy(to, body.p, body.n);
        return 0;
}

static void put_view(struct record *r, uint64_t bit, struct mr_view *to, struct mr_view text) {
        if (text.n == 0)
                return;
        r->has |= bit;
        *to = text;
}

static void put_endpoint(struct record *r, enum body_kind kind) {
        if (kind != BODY_COMPLETIONS && kind != BODY_EMBEDDINGS)
                return;
        r->has |= HAS(endpoint);
        r->endpoint = kind == BODY_COMPLETIONS ? ENDPOINT_COMPLETIONS : ENDPOINT_EMBEDDINGS;
        if (kind == BODY_EMBEDDINGS)
                r->has &= ~(HAS(query) | HAS(earlier)); /* nothing is looked up for it */
}

/* A named session is kept, but not beside what its client keeps itself: a client that sends an answer, or
 * several questions, knows what came before. */
static bool is_in_session(const struct gateway *gw, const struct ask *ask, const struct body_marks *m) {
        return gw->w->settings->sessions.history_turns && ask->session.n && m->conversation.len &&
               !m->n_assistants && m->n_users <= 1 && lookups_have_database(gw);
}

static int record_fill(struct gateway *gw, struct admit *ad, struct record *r) {
        const struct composed *made = ad->composed;
        const struct ask *ask = ad->ask;
        struct answer *a = ad->a;

        *r = (struct record){.has = HAS(gateway) | HAS(id) | HAS(tenant) | HAS(options) |
                                    HAS(priority) | HAS(digest_hi) | HAS(digest_lo) |
                                    HAS(body_len) | HAS(marks),
                        .gateway = gw->slot,
                        .id = answer_id(a),
                        .tenant = {a->tenant, a->tenant_len},
                        .options = ask->options | made->options | ad->options,
                        .priority = ask->priority,
                        .digest_hi = made->digest[0],
                        .digest_lo = made->digest[1],
                        .body_len = made->body.n,
                        .marks = {(const char *)&made->marks, sizeof(made->marks)}};
        if (ask->deadline_first && (r->options & OPTION_STREAM))
                r->options |= OPTION_DEADLINE_FIRST;
        if (is_in_session(gw, ask, &made->marks))
                r->options |= OPTION_SESSION;
        put_view(r, HAS(model), &r->model, made->model);
        put_view(r, HAS(session), &r->session, made->session);
        put_view(r, HAS(system), &r->system, ask->system);
        put_view(r, HAS(template), &r->template, ask->template_name);
        put_view(r, HAS(params), &r->params, made->params);
        put_view(r, HAS(query), &r->query, made->query);
        put_view(r, HAS(earlier), &r->earlier, made->earlier);
        put_view(r, HAS(collections), &r->collections, ask->collections);
        put_view(r, HAS(filter), &r->filter, ask->filter);
        put_view(r, HAS(stop), &r->stop, made->stop);
        put_view(r, HAS(response_format), &r->response_format, made->response_format);
        if (made->max_tokens > 0) {
                r->has |= HAS(max_tokens);
                r->max_tokens = made->max_tokens;
        }
        put_endpoint(r, ask->kind);
        if (made->body.n <= ADMIT_INLINE)
                put_view(r, HAS(body), &r->body, made->body);
        else
                r->has |= HAS(body_off) | HAS(body_gen);
        if (ad->deadline_ns != 0) {
                r->has |= HAS(deadline_ns);
                r->deadline_ns = ad->deadline_ns;
        }
        if (r->options & OPTION_DETACH) {
                r->has |= HAS(created);
                r->created = gateway_epoch_s(gw, ad->t0);
        }
        if (ask->vars.n == 0)
                return 0;
        msgpack_zone_clear(&gw->vars.zone);
        if (record_raw_parse(&gw->vars, ask->vars.p, ask->vars.n, &r->vars) < 0)
                return ask_fail(ad->error, MR_E_invalid_request, "vars: nested too deep");
        r->has |= HAS(vars);
        return 0;
}

static void undo(struct gateway *gw, struct admit *ad) {
        if (ad->block.len > 0)
                arena_free(&gw->arena, &ad->block);
        table_lane_give(&gw->table, ad->lane);
}

/* Takes everything that the request needs, or nothing. */
static int take_all(struct gateway *gw, struct admit *ad, const struct record *record) {
        struct admission_slot *slot;

        if (table_lane_take(&gw->table, ad->lane) != 0)
                return ADMIT_WAIT;
        ad->block.len = 0;
        if (claim(gw, ad) != 0 || block_store(gw, ad, record) != 0 || ring_reserve(gw, ad) != 0) {
                undo(gw, ad);
                return ADMIT_WAIT;
        }
        slot = &gw->table.shm->slots[ad->slot];
        if (follow_add(gw->table.shm, atomic_load_explicit(&slot->req_id, memory_order_relaxed)) !=
                        0) {
                undo(gw, ad);
                return ADMIT_WAIT;
        }
        return 0;
}

/* The slot says OPEN, then the record is ended; the turn's commit makes both real. */
static void emit(struct gateway *gw, struct admit *ad, struct record *record) {
        struct worker_out *out = gw->to_rag[ad->lane];
        struct answer *a = ad->a;
        uint64_t req_id = atomic_load_explicit(
                        &gw->table.shm->slots[ad->slot].req_id, memory_order_relaxed);
        struct ring_meta meta = {.type = RECORD_REQUEST,
                        .flags = RING_HEAD | RING_LAST,
                        .req_id = req_id,
                        .t0 = ad->t0};
        struct table_open open = {.lane = ad->lane,
                        .flags = a->detached ? ADMISSION_DETACHED : 0,
                        .lane_gen = gw->lane_gen[ad->lane],
                        .ring_seq = out->tx.next,
                        .t0 = ad->t0,
                        .block = ad->block,
                        .body_len = ad->body_len,
                        .digest = {a->digest[0], a->digest[1]}};
        uint32_t len;

        if (ad->body_len > 0) {
                record->body_off = ad->block.off;
                record->body_gen = ad->block.gen;
        }
        if (record_encode(record, ad->to, ad->bound, &len) < 0)
                worker_fail(gw->w, "record longer than its bound", -ENOBUFS);
        if (ad->copy) {
                memcpy(ad->copy, ad->to, len);
                open.record_len = len;
        }
        table_open(&gw->table, ad->slot, &open);
        FAULT(gw->w, "slot_open", record->query.p, record->query.n);
        ring_tx_end(&out->tx, &meta, len);
        a->where = ANSWER_OPEN;
        a->slot = ad->slot;
        a->t0 = ad->t0;
        a->deadline_first = record->options & OPTION_DEADLINE_FIRST;
        answer_number(gw, a, req_id);
        if (ad->deadline_ns != 0)
                loop_timer_set(gw->w->loop, &a->deadline, ad->deadline_ns);
}

int admit(struct gateway *gw, struct admit *ad) {
        const struct ring_geometry *geo = &gw->to_rag[ad->lane]->tx.map.geo;
        struct record record;

        if (record_fill(gw, ad, &record))
                return ADMIT_REFUSED;
        ad->bound = record_size_bound(&record);
        if (ad->bound > geo->max_rec / RECORD_SHARE) {
                ask_fail(ad->error, MR_E_too_large,
                                "system, template, vars, params, stop and response_format: together "
                                "at most %u bytes are allowed",
                                geo->max_rec / RECORD_SHARE);
                return ADMIT_REFUSED;
        }
        if (ad->composed->body.n + (record.options & OPTION_SESSION ? ad->bound : 0) >
                        gw->w->topology->arena_bytes) {
                ask_fail(ad->error, MR_E_too_large,
                                "body: larger than admission.arena_bytes can hold");
                return ADMIT_REFUSED;
        }
        if (take_all(gw, ad, &record) != 0)
                return ADMIT_WAIT;
        emit(gw, ad, &record);
        readers_follow(gw, ad->a);
        readers_accept(gw, ad->a);
        return ADMIT_DONE;
}
