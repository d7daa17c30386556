#include "stages/gateway/submit.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <xxhash.h>

#include "stages/gateway/admit.h"
#include "stages/gateway/answers.h"
#include "stages/gateway/lanes.h"
#include "stages/gateway/reader.h"

#define ID_RANDOM 12u /* bytes: 96 bits */

/* ---- refusals ---- */

static void refuse(struct gateway *gw, struct client *client, struct mr_view id,
                enum mr_error code, const char *message) {
        client_refuse(client, id, code, message,
                        mr_error_retryable(code) ? gateway_retry_after_ms(gw) : ASK_NO_RETRY);
}

static uint64_t retry_after_ms(
                const struct gateway *gw, const struct answer *a, enum mr_error code) {
        if (!mr_error_retryable(code))
                return ASK_NO_RETRY;
        return a->lane < gw->n_lanes && lane_is_down(gw, a->lane) ? LANES_RETRY_MS
                                                                 : gateway_retry_after_ms(gw);
}

void submit_refuse_waiting(
                struct gateway *gw, struct answer *a, enum mr_error code, const char *message) {
        if (a->waiting)
                door_leave(gw, a->waiting);
        while (a->readers) {
                struct client *client = a->readers->client;

                reader_remove(gw, a->readers);
                client_refuse(client, answer_id(a), code, message, retry_after_ms(gw, a, code));
        }
        answer_unname(gw, a);
        answer_dirty(gw, a); /* the turn frees it */
}

/* ---- what is checked before anything is taken ---- */

/* A name that is listed, or any name when "*" is. */
static int model_check(const struct gateway *gw, struct mr_view model, struct ask_error *error) {
        const struct settings_models *models = &gw->w->settings->inference.models;

        for (uint32_t i = 0; i < models->n; i++) {
                const char *name = models->v[i].name;

                if (strcmp(name, "*") == 0 ||
                                (strlen(name) == model.n && memcmp(name, model.p, model.n) == 0))
                        return 0;
        }
        /* One model only: it is the one that is meant. */
        if (model.n == 0 && models->n == 1)
                return 0;
        if (model.n == 0)
                return ask_fail(error, MR_E_model_not_found, "model: none was named");
        return ask_fail(error, MR_E_model_not_found, "model: \"%.*s\" is not served here",
                        (int)(model.n < 128 ? model.n : 128), model.p);
}

static uint64_t deadline_of(const struct ask *ask, uint64_t now) {
        if (ask->deadline_ms == 0 || ask->deadline_ms > (UINT64_MAX - now) / NS_PER_MS)
                return 0;
        return now + ask->deadline_ms * NS_PER_MS;
}

int gateway_random(struct gateway *gw, uint8_t *to, uint32_t n) {
        if (gw->random_at + n > sizeof(gw->random)) {
                if (getrandom(gw->random, sizeof(gw->random), 0) != (ssize_t)sizeof(gw->random))
                        return -EIO;
                gw->random_at = 0;
        }
        memcpy(to, gw->random + gw->random_at, n);
        memset(gw->random + gw->random_at, 0, n);
        gw->random_at += n;
        return 0;
}

static uint32_t lane_of(const struct gateway *gw, struct mr_view text) {
        return (uint32_t)(XXH3_64bits(text.p, text.n) % gw->n_lanes);
}

#define ID_MADE_LEN (4u + 2u + 2u * ID_RANDOM)

/* By the hash; when that one is down, the next that is not. */
static uint32_t any_lane(const struct gateway *gw, uint64_t hash) {
        uint32_t first = (uint32_t)(hash % gw->n_lanes);

        for (uint32_t i = 0; i < gw->n_lanes; i++)
                if (!lane_is_down(gw, (first + i) % gw->n_lanes))
                        return (first + i) % gw->n_lanes;
        return first;
}

/* req_<lane><96 random bits>. */
static int id_make(struct gateway *gw, uint32_t *lane, char to[static ID_MADE_LEN]) {
        static const char hex[] = "0123456789abcdef";
        uint8_t bytes[1 + ID_RANDOM];

        if (gateway_random(gw, bytes + 1, ID_RANDOM) < 0)
                return -EIO;
        if (*lane == UINT32_MAX)
                *lane = any_lane(gw, XXH3_64bits(bytes + 1, ID_RANDOM));
        bytes[0] = (uint8_t)*lane;
        memcpy(to, "req_", 4);
        for (uint32_t i = 0; i < sizeof(bytes); i++) {
                to[4 + 2 * i] = hex[bytes[i] >> 4];
                to[5 + 2 * i] = hex[bytes[i] & 15];
        }
        return 0;
}

/* ---- known ids ---- */

/* Finished in an error after which it may run anew? */
static bool may_run_anew(const struct gateway *gw, const struct answer *a) {
        const struct log_view *view = &gw->w->logs[a->lane];

        return a->response != LOG_NONE && log_response_state(view, a->response) == LOG_FINISHED &&
               log_response_outcome(view, a->response) == LOG_OUTCOME_RETRYABLE;
}

static struct answer *known(struct gateway *gw, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id, int *ret_full) {
        struct answer *a = answer_named(gw, id_hash, tenant, id);
        int r = 0;

        if (a && a->where != ANSWER_DOOR && may_run_anew(gw, a)) {
                answer_unname(gw, a);
                return NULL;
        }
        if (a)
                return a;
        r = answer_find_elsewhere(gw, id_hash, tenant, id, &a);
        *ret_full = r == ANSWER_E_FULL;
        if (r != 0)
                return NULL;
        if (may_run_anew(gw, a)) {
                answer_unname(gw, a);
                return NULL;
        }
        return a;
}

static enum reader_kind kind_of(const struct ask *ask, const struct composed *made) {
        uint32_t options = ask->options | made->options;

        if (options & OPTION_DETACH && !made->followed)
                return READER_DETACHED;
        return options & OPTION_STREAM ? READER_EVENTS : READER_UNARY;
}

static void join(struct gateway *gw, struct client *client, struct answer *a, const struct ask *ask,
                const struct composed *made) {
        struct reader *r = reader_find(client, a);

        if (memcmp(a->digest, made->digest, sizeof(a->digest)) != 0) {
                counters_add(gw->w->counters, COUNTER_refused, 1);
                refuse(gw, client, answer_id(a), MR_E_id_conflict,
                                "id: it belongs to a request with other content");
                return;
        }
        if (!r)
                r = reader_add(gw, client, a, kind_of(ask, made), 0);
        if (!r) {
                refuse(gw, client, answer_id(a), MR_E_overloaded, "too many readers");
                return;
        }
        r->accepts++;
        if (a->where != ANSWER_DOOR)
                readers_accept(gw, a);
}

/* A detached request needs somewhere to keep its answer. True: it was refused. */
static bool detach_refuse(struct gateway *gw, struct client *client, struct mr_view id) {
        if (!lookups_have_database(gw)) {
                counters_add(gw->w->counters, COUNTER_refused, 1);
                refuse(gw, client, id, MR_E_invalid_request,
                                "detach: there is no database to keep the answer "
                                "(stream.database: none)");
                return true;
        }
        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                if (!lane_is_here(gw, lane) || !log_database_failed(&gw->w->logs[lane]))
                        continue;
                counters_add(gw->w->counters, COUNTER_shed_database, 1);
                refuse(gw, client, id, MR_E_overloaded,
                                "detach: the database cannot keep the answer now");
                return true;
        }
        return false;
}

/* ---- the two ways in ---- */

static void to_door(struct gateway *gw, const struct client *client, struct admit *ad,
                const uint8_t *frame, uint32_t frame_len) {
        struct door_wait wait = {.answer = ad->a,
                        .dialect = client->dialect,
                        .made = ad->composed,
                        .frame = frame,
                        .frame_len = frame_len,
                        .lane = ad->lane,
                        .slot = ad->slot,
                        .options = ad->options,
                        .priority = ad->ask->priority,
                        .t0 = ad->t0,
                        .deadline_ns = ad->deadline_ns};

        if (door_enter(gw, &wait) == 0)
                return;
        if (ad->slot != ADMISSION_NONE)
                table_withdraw(&gw->table, ad->slot);
        counters_add(gw->w->counters, COUNTER_shed_door, 1);
        submit_refuse_waiting(gw, ad->a, MR_E_overloaded, "too many requests wait to be admitted");
}

static void run(struct gateway *gw, struct client *client, struct admit *ad, const uint8_t *frame,
                uint32_t frame_len) {
        struct reader *r = reader_add(gw, client, ad->a, kind_of(ad->ask, ad->composed), 0);
        int done = ADMIT_WAIT;

        if (!r) {
                submit_refuse_waiting(gw, ad->a, MR_E_overloaded, "too many readers");
                refuse(gw, client, answer_id(ad->a), MR_E_overloaded, "too many readers");
                return;
        }
        r->accepts = 1;
        if (lane_is_here(gw, ad->lane) && !door_occupied(gw, ad->lane, ad->ask->priority))
                done = admit(gw, ad);
        if (done == ADMIT_WAIT) {
                to_door(gw, client, ad, frame, frame_len);
        } else if (done == ADMIT_REFUSED) {
                counters_add(gw->w->counters, COUNTER_refused, 1);
                submit_refuse_waiting(gw, ad->a, ad->error->code, ad->error->text);
        }
}

/* Which lane, and under what id: made here when the client has named none. 0 or -EIO. */
static int place(struct gateway *gw, struct admit *ad, struct mr_view *id,
                char made[static ID_MADE_LEN]) {
        if (ad->composed->session.n > 0)
                ad->lane = lane_of(gw, ad->composed->session);
        else if (id->n > 0)
                ad->lane = lane_of(gw, *id);
        if (id->n > 0)
                return 0;
        if (id_make(gw, &ad->lane, made) < 0)
                return -EIO;
        ad->options = OPTION_ID_MADE;
        *id = (struct mr_view){made, ID_MADE_LEN};
        return 0;
}

void submit(struct gateway *gw, struct client *client, const struct ask *ask,
                const struct lookup_frame *frame) {
        struct mr_view tenant = {client->tenant, client->tenant_len}, id = ask->id;
        struct ask_error error;
        struct composed composed;
        struct admit ad = {.ask = ask,
                        .composed = &composed,
                        .error = &error,
                        .t0 = loop_now_ns(gw->w->loop),
                        .lane = UINT32_MAX,
                        .slot = ADMISSION_NONE};
        char made[ID_MADE_LEN];
        uint64_t id_hash;
        int full = 0;

        if (gw->w->draining) {
                counters_add(gw->w->counters, COUNTER_shed_draining, 1);
                refuse(gw, client, id, MR_E_draining, "the daemon is shutting down");
                return;
        }
        if (compose(&gw->composer, ask, &composed, &error) ||
                        model_check(gw, composed.model, &error)) {
                counters_add(gw->w->counters, COUNTER_refused, 1);
                client_refuse_ask(client, id, &error);
                return;
        }
        FAULT(gw->w, "on_record", composed.query.p, composed.query.n);
        if (client->dialect->composed)
                client->dialect->composed(client, &composed);
        if (place(gw, &ad, &id, made) < 0) {
                refuse(gw, client, id, MR_E_internal, "no random bytes");
                return;
        }
        id_hash = log_id_hash(tenant.p, tenant.n, id.p, id.n);
        if (!(ad.options & OPTION_ID_MADE)) {
                ad.a = known(gw, id_hash, tenant, id, &full);
                if (ad.a) {
                        join(gw, client, ad.a, ask, &composed);
                        return;
                }
                if (!full && lookup_park(gw, frame))
                        return;
        }
        if (lane_is_down(gw, ad.lane)) {
                counters_add(gw->w->counters, COUNTER_shed_down, 1);
                client_refuse(client, id, MR_E_overloaded, "a stage of the lane is down",
                                LANES_RETRY_MS);
                return;
        }
        if ((ask->options | composed.options) & OPTION_DETACH && detach_refuse(gw, client, id))
                return;
        if (!full)
                ad.a = answer_new(gw, id_hash, tenant, id);
        if (!ad.a) {
                counters_add(gw->w->counters, COUNTER_shed_door, 1);
                refuse(gw, client, id, MR_E_overloaded, "too many requests");
                return;
        }
        ad.a->lane = ad.lane;
        ad.a->detached = (ask->options | composed.options) & OPTION_DETACH;
        memcpy(ad.a->digest, composed.digest, sizeof(composed.digest));
        ad.deadline_ns = deadline_of(ask, ad.t0);
        run(gw, client, &ad, frame->bytes, frame->len);
}

/* Another gateway was first with this id: who waits here reads there. */
static bool moved_elsewhere(struct gateway *gw, struct door_entry *entry) {
        struct answer *a = entry->answer, *other;
        struct mr_view tenant = {a->tenant, a->tenant_len};

        if ((entry->options & OPTION_ID_MADE) || entry->slot != ADMISSION_NONE ||
                        answer_find_elsewhere(gw, a->id_hash, tenant, answer_id(a), &other) != 0 ||
                        other == a)
                return false;
        if (may_run_anew(gw, other)) {
                answer_unname(gw, other);
                return false;
        }
        if (memcmp(other->digest, a->digest, sizeof(a->digest)) != 0) {
                submit_refuse_waiting(gw, a, MR_E_id_conflict,
                                "id: it belongs to a request with other content");
                return true;
        }
        door_leave(gw, entry);
        answer_unname(gw, a);
        readers_move(gw, a, other);
        readers_accept(gw, other);
        answer_dirty(gw, a);
        return true;
}

int submit_waiting(struct gateway *gw, struct door_entry *entry) {
        struct ask_error error;
        struct composed composed;
        struct ask ask;
        struct admit ad = {.a = entry->answer,
                        .ask = &ask,
                        .composed = entry->kept ? &entry->made : &composed,
                        .error = &error,
                        .t0 = entry->t0,
                        .deadline_ns = entry->deadline_ns,
                        .lane = entry->lane,
                        .slot = entry->slot,
                        .options = entry->options};
        int done;

        if (!ad.a->readers) { /* everybody who waited for it has left */
                door_leave(gw, entry);
                answer_dirty(gw, ad.a);
                return 0;
        }
        if (entry->frame_len > ADMIT_INLINE && gw->door.arena_used != UINT64_MAX)
                return 1;
        if (moved_elsewhere(gw, entry))
                return 0;
        if (entry->dialect->parse(entry->frame, entry->frame_len, &ask, &error) ||
                        (!entry->kept && compose(&gw->composer, &ask, &composed, &error))) {
                submit_refuse_waiting(gw, ad.a, error.code, error.text);
                return 0;
        }
        done = admit(gw, &ad);
        entry->slot = done == ADMIT_DONE ? ADMISSION_NONE : ad.slot;
        if (done == ADMIT_WAIT)
                return 1;
        if (done == ADMIT_DONE)
                door_leave(gw, entry);
        else
                submit_refuse_waiting(gw, ad.a, error.code, error.text);
        return 0;
}
