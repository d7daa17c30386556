#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stages/gateway/answers.h"
#include "stages/gateway/http.h"
#include "stages/gateway/lanes.h"
#include "stages/gateway/ops.h"
#include "stages/gateway/reader.h"

/* ---- before contact with shared memory ---- */

static int settings_check(const struct settings *s) {
        if (s->auth.keys_file) {
                log_error("settings",
                                "key=auth.keys_file problem=\"this version knows no access keys; "
                                "set it to null\"");
                return -EINVAL;
        }
        return 0;
}

/* Of what is larger than this the kernel has the memory back at once. Left alone, libc raises the bound
 * with the first large body, and later ones leave holes between what slow clients keep waiting. */
#define LARGE_BYTES (128 * 1024)

int gateway_init(struct worker *w) {
        const struct settings *s = w->settings;
        struct gateway *gw;
        uint64_t answers;
        int r = settings_check(s);

        if (r < 0)
                return r;
        (void)mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
        gw = calloc(1, sizeof(*gw));
        if (!gw)
                return -ENOMEM;
        w->stage = gw;
        gw->w = w;
        gw->slot = w->hello.slot;
        gw->uid = getuid();
        gw->n_lanes = w->topology->n_lanes;
        gw->dirty_end = &gw->dirty;
        gw->random_at = sizeof(gw->random);
        if (gw->n_lanes == 0 || gw->n_lanes > LANES_MAX || gw->slot >= GATEWAY_SLOTS_MAX)
                return -EPROTO;
        answers = (uint64_t)gw->n_lanes * w->topology->max_in_flight + s->admission.queue +
                  GATEWAY_MORE_ANSWERS;
        r = record_decoder_init(&gw->vars);
        if (r == 0)
                r = composer_init(&gw->composer, s->admission.max_body_bytes);
        if (r == 0)
                r = answers_init(&gw->answers, (uint32_t)answers);
        if (r == 0)
                r = readers_init(&gw->readers, (uint32_t)answers * 4);
        if (r == 0)
                r = http_surface_init(gw);
        door_init(gw);
        lookups_init(gw);
        return r;
}

/* ---- attach ---- */

static int rings_find(struct gateway *gw) {
        struct worker *w = gw->w;
        const struct topology_shm *t = w->topology;

        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                uint32_t rag = topology_proc_stage(t, lane, ROLE_RAG);
                uint32_t inference = topology_proc_stage(t, lane, ROLE_INFERENCE);
                uint32_t stream = topology_proc_stage(t, lane, ROLE_STREAM);

                gw->to_rag[lane] = worker_find_out(w, RING_DATA, lane, rag);
                gw->to_inference[lane] = worker_find_out(w, RING_CANCEL, lane, inference);
                gw->to_stream[lane] = worker_find_out(w, RING_LOOKUP, lane, stream);
                gw->notices[lane] = worker_find_in(w, RING_NOTICE, stream);
                if (!gw->to_rag[lane] || !gw->to_inference[lane] || !gw->to_stream[lane] ||
                                !gw->notices[lane] ||
                                !w->logs[lane].shm || gw->to_rag[lane]->tx.map.geo.bound == 0)
                        return -EPROTO;
        }
        return 0;
}

/* A slot that the last incarnation left open is an answer without readers. */
static int slot_adopt(struct gateway *gw, uint32_t i) {
        struct admission_slot *slot = &gw->table.shm->slots[i];
        uint64_t req_id = atomic_load_explicit(&slot->req_id, memory_order_relaxed);
        struct answer *a;

        if (slot->id_len > ADMISSION_ID_MAX || slot->tenant_len > ADMISSION_TENANT_MAX ||
                        req_id == 0 || answers_by_req(&gw->answers, req_id))
                return -EPROTO;
        a = answer_new(gw, atomic_load_explicit(&slot->id_hash, memory_order_relaxed),
                        (struct mr_view){slot->tenant, slot->tenant_len},
                        (struct mr_view){slot->id, slot->id_len});
        if (!a)
                return -ENOMEM;
        a->where = ANSWER_OPEN;
        a->slot = i;
        a->lane = slot->lane;
        a->t0 = slot->t0;
        a->detached = slot->flags & ADMISSION_DETACHED;
        memcpy(a->digest, slot->digest, sizeof(a->digest));
        answer_number(gw, a, req_id);
        answer_dirty(gw, a);
        return follow_add(gw->table.shm, req_id) == 0 ? 0 : -ENOMEM;
}

/* A request that another gateway slot holds, or that runs without one. */
static struct answer *elsewhere_new(struct gateway *gw, uint64_t req_id, uint32_t lane) {
        struct answer *a = answer_new(gw, 0, (struct mr_view){0}, (struct mr_view){0});

        if (!a)
                return NULL;
        a->where = ANSWER_ELSEWHERE;
        a->lane = lane;
        answer_number(gw, a, req_id);
        answer_dirty(gw, a);
        return a;
}

/* Running, as its lane's log says. 0 and *ret, NULL: no log says so. */
static int logged_adopt(struct gateway *gw, uint64_t req_id, struct answer **ret) {
        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                const struct log_view *view = &gw->w->logs[lane];
                uint32_t response;

                if (log_find(view, req_id, &response) != 0 ||
                                log_response_state(view, response) != LOG_OPEN)
                        continue;
                *ret = elsewhere_new(gw, req_id, lane);
                if (!*ret)
                        return -ENOMEM;
                (*ret)->response = response;
                (*ret)->detached = log_response_detached(view, response);
                log_response_digest(view, response, (*ret)->digest);
                return 0;
        }
        return 0;
}

/* Admitted, as the table of the gateway slot in its number says, and in no log yet. */
static int admitted_adopt(struct gateway *gw, uint64_t req_id, struct answer **ret) {
        uint64_t g = req_id >> REQ_ID_SLOT_SHIFT & REQ_ID_SLOT_MASK;
        const struct admission_view *view = g < GATEWAY_SLOTS_MAX ? &gw->w->admissions[g] : NULL;
        struct admission_slot slot;

        for (uint32_t i = 0; view && view->shm && i < view->n_slots; i++) {
                if (atomic_load_explicit(&view->shm->slots[i].req_id, memory_order_acquire) !=
                                                req_id ||
                                table_peek(view, i, &slot) != 0 || slot.lane >= gw->n_lanes ||
                                slot.lane_gen != gw->lane_gen[slot.lane])
                        continue;
                *ret = elsewhere_new(gw, req_id, slot.lane);
                if (!*ret)
                        return -ENOMEM;
                (*ret)->detached = slot.flags & ADMISSION_DETACHED;
                memcpy((*ret)->digest, slot.digest, sizeof(slot.digest));
                return 0;
        }
        return 0;
}

/* Its readers died with us; what was marked stays marked until the response ends. */
static int follow_adopt(struct gateway *gw, uint64_t req_id, uint64_t flags) {
        struct answer *a = answers_by_req(&gw->answers, req_id);
        int r = 0;

        follow_mark(gw->table.shm, req_id, 0, -(int)(flags >> 16));
        /* The way a request moves: what has left the table by now is in the log. */
        if (!a)
                r = admitted_adopt(gw, req_id, &a);
        if (r == 0 && !a)
                r = logged_adopt(gw, req_id, &a);
        if (r < 0)
                return r;
        if (!a)
                follow_remove(gw->table.shm, req_id);
        else if (flags & FOLLOW_CANCELLED)
                answer_cancel(gw, a, CANCEL_CLIENT); /* the record may have died with us */
        return 0;
}

static int follows_adopt(struct gateway *gw) {
        struct follow_bucket *buckets = admission_follows(gw->table.shm);

        for (uint32_t b = 0; b < gw->table.shm->n_buckets; b++)
                for (unsigned i = 0; i < ADMISSION_WAYS; i++) {
                        uint64_t req_id = atomic_load_explicit(
                                        &buckets[b].req_id[i], memory_order_relaxed);
                        uint64_t flags = atomic_load_explicit(
                                        &buckets[b].flags[i], memory_order_relaxed);
                        int r = req_id ? follow_adopt(gw, req_id, flags) : 0;

                        if (r < 0)
                                return r;
                }
        return 0;
}

/* Clients had their time to come back. */
static void on_grace(struct loop_timer *timer) {
        struct gateway *gw = timer->owner;

        answers_orphans(gw);
}

static int table_init(struct gateway *gw) {
        struct worker *w = gw->w;
        struct table_lane lanes[LANES_MAX];
        int r;

        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                gw->lane_gen[lane] = atomic_load_explicit(&w->topology->lane_state[lane],
                                                     memory_order_acquire) >>
                                     8;
                lanes[lane] = (struct table_lane){.committed = gw->to_rag[lane]->tx.committed,
                                .lane_gen = gw->lane_gen[lane]};
        }
        gw->table = (struct admission_table){.shm = w->admission,
                        .arena = &gw->arena,
                        .others = w->admissions,
                        .gateway = gw->slot,
                        .n_lanes = gw->n_lanes,
                        .max_in_flight = w->topology->max_in_flight,
                        .generation = w->topology->generation};
        if (w->admission->n_slots != gw->n_lanes * w->topology->max_in_flight)
                return -EPROTO;
        r = arena_attach(&gw->arena, w->arena_map, w->arena_map_bytes);
        if (r == 0)
                r = table_attach(&gw->table, lanes);
        for (uint32_t i = 0; r == 0 && i < gw->table.n_slots; i++)
                if (table_is_open(&gw->table, i))
                        r = slot_adopt(gw, i);
        return r == 0 ? follows_adopt(gw) : r;
}

int gateway_attach(struct worker *w) {
        struct gateway *gw = w->stage;
        uint64_t now = loop_now_ns(w->loop);
        int r;

        if (!w->admission || !w->arena_map)
                return -EPROTO;
        r = rings_find(gw);
        if (r == 0)
                r = table_init(gw);
        if (r < 0)
                return r;
        for (uint32_t lane = 0; lane < gw->n_lanes; lane++)
                gateway_lane(w, lane, gw->lane_gen[lane]);
        gw->closed_ns = now;
        gw->grace = (struct loop_timer){.fn = on_grace, .owner = gw};
        if (gw->answers.n > 0)
                loop_timer_set(w->loop, &gw->grace,
                                now + w->settings->stream.gateway_grace_ms * NS_PER_MS);
        gateway_listen(gw, w->listeners[LISTENER_SOCKET]);
        for (uint32_t i = 0; i < w->n_http; i++)
                if (w->http[i].index >= w->settings->http.listen.n ||
                                !http_listen(gw, w->http[i].fd,
                                                w->settings->http.listen.v[w->http[i].index]))
                        return -EPROTO;
        return 0;
}

void gateway_fini(struct worker *w) {
        struct gateway *gw = w->stage;

        if (!gw)
                return;
        gw->leaving = true;
        if (gw->conns.loop)
                conns_close(&gw->conns);
        loop_timer_clear(w->loop, &gw->grace);
        if (w->closing)
                loop_timer_clear(w->loop, &gw->last_call);
        loop_timer_clear(w->loop, &gw->door.tick);
        door_forget(gw);
        lookups_close(gw);
        http_surface_close(gw);
        answers_close(&gw->answers);
        readers_close(&gw->readers);
        table_detach(&gw->table);
        arena_close(&gw->arena);
        composer_close(&gw->composer);
        if (gw->vars.zone.chunk_size > 0)
                record_decoder_close(&gw->vars);
        free(gw);
        w->stage = NULL;
}
