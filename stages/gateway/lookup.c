#include "stages/gateway/lookup.h"

#include <stdlib.h>
#include <string.h>

#include "stages/gateway/gateway.h"
#include "stages/gateway/lanes.h"

#define FRAMES_MAX 4096u
#define PATIENCE_NS (10 * NS_PER_S)

struct parked {
        struct parked *next;
        struct conn *conn;
        uint32_t len;
        uint8_t bytes[];
};

struct lookup {
        struct lookup *next;
        struct gateway *gateway;
        uint64_t number; /* of the LOOKUP, and of the response that comes of it */
        uint64_t id_hash;
        uint32_t lane;
        bool sent;
        struct parked *first, **last;
        struct loop_timer timer;
        uint16_t id_len, tenant_len;
        char id[ADMISSION_ID_MAX];
        char tenant[ADMISSION_TENANT_MAX];
};

void lookups_init(struct gateway *gw) {
        gw->lookups = (struct lookups){.all = NULL};
}

bool lookups_have_database(const struct gateway *gw) {
        const char *database = gw->w->settings->stream.database;

        return database && strcmp(database, "none") != 0;
}

/* ---- parked frames ---- */

static void drop(struct gateway *gw, struct parked *p) {
        gw->lookups.n--;
        gw->lookups.bytes -= p->len;
        conn_release(p->conn);
        free(p);
}

static bool park(struct gateway *gw, struct lookup *lookup, const struct lookup_frame *frame) {
        struct parked *p = NULL;

        if (gw->lookups.n < FRAMES_MAX &&
                        gw->lookups.bytes + frame->len <= gw->w->settings->admission.queue_bytes)
                p = malloc(sizeof(*p) + frame->len);
        if (!p)
                return false;
        *p = (struct parked){.conn = frame->conn, .len = frame->len};
        memcpy(p->bytes, frame->bytes, frame->len);
        *lookup->last = p;
        lookup->last = &p->next;
        frame->conn->users++;
        gw->lookups.n++;
        gw->lookups.bytes += frame->len;
        return true;
}

/* Nobody may find it any more; its frames are the caller's. */
static struct parked *unlink_lookup(struct gateway *gw, struct lookup *lookup) {
        struct lookup **at = &gw->lookups.all;
        struct parked *first = lookup->first;

        while (*at != lookup)
                at = &(*at)->next;
        *at = lookup->next;
        loop_timer_clear(gw->w->loop, &lookup->timer);
        lookup->first = NULL;
        return first;
}

static void forget(struct gateway *gw, struct lookup *lookup) {
        follow_remove(gw->table.shm, lookup->number);
        free(lookup);
}

static void refuse(struct gateway *gw, struct lookup *lookup, enum mr_error code,
                const char *message) {
        struct parked *p = unlink_lookup(gw, lookup);

        while (p) {
                struct parked *next = p->next;

                if (p->conn->state != CONN_CLOSING)
                        client_refuse(p->conn->user, (struct mr_view){lookup->id, lookup->id_len},
                                        code, message,
                                        mr_error_retryable(code) ? gateway_retry_after_ms(gw)
                                                                 : ASK_NO_RETRY);
                drop(gw, p);
                p = next;
        }
        forget(gw, lookup);
}

static void on_timeout(struct loop_timer *timer) {
        struct lookup *lookup = timer->owner;

        refuse(lookup->gateway, lookup, MR_E_overloaded, "the database took too long to answer");
}

/* ---- asking ---- */

static bool is_for(const struct lookup *lookup, uint64_t id_hash, const struct lookup_frame *frame) {
        return lookup->id_hash == id_hash && lookup->id_len == frame->id.n &&
               lookup->tenant_len == frame->tenant.n &&
               memcmp(lookup->id, frame->id.p, frame->id.n) == 0 &&
               memcmp(lookup->tenant, frame->tenant.p, frame->tenant.n) == 0;
}

static struct lookup *find(struct gateway *gw, uint64_t id_hash, const struct lookup_frame *frame) {
        struct lookup *lookup = gw->lookups.all;

        while (lookup && !is_for(lookup, id_hash, frame))
                lookup = lookup->next;
        return lookup;
}

/* Does any lane say that the id may be stored? */
static bool may_be_stored(const struct gateway *gw, uint64_t id_hash) {
        for (uint32_t lane = 0; lane < gw->n_lanes; lane++)
                if (lane_is_here(gw, lane) && log_may_be_stored(&gw->w->logs[lane], id_hash))
                        return true;
        return false;
}

/* All lanes share the one database, so any of them may be asked. */
static uint32_t lane_of(const struct gateway *gw, uint64_t id_hash) {
        for (uint32_t i = 0; i < gw->n_lanes; i++) {
                uint32_t lane = (uint32_t)((id_hash + i) % gw->n_lanes);

                if (lane_is_here(gw, lane) && !lane_is_down(gw, lane))
                        return lane;
        }
        return (uint32_t)(id_hash % gw->n_lanes);
}

static struct lookup *begin(struct gateway *gw, uint64_t id_hash, const struct lookup_frame *frame) {
        struct lookup *lookup = calloc(1, sizeof(*lookup));

        if (!lookup)
                return NULL;
        lookup->number = table_next_request(&gw->table);
        /* The log does not give the response's place to another one before we have seen it. */
        if (follow_add(gw->table.shm, lookup->number) != 0) {
                free(lookup);
                return NULL;
        }
        lookup->gateway = gw;
        lookup->id_hash = id_hash;
        lookup->lane = lane_of(gw, id_hash);
        lookup->last = &lookup->first;
        lookup->id_len = (uint16_t)frame->id.n;
        lookup->tenant_len = (uint16_t)frame->tenant.n;
        memcpy(lookup->id, frame->id.p, frame->id.n);
        memcpy(lookup->tenant, frame->tenant.p, frame->tenant.n);
        lookup->timer = (struct loop_timer){.fn = on_timeout, .owner = lookup};
        loop_timer_set(gw->w->loop, &lookup->timer,
                        loop_now_ns(gw->w->loop) + PATIENCE_NS);
        lookup->next = gw->lookups.all;
        gw->lookups.all = lookup;
        gw->lookups.unsent = true;
        return lookup;
}

bool lookup_park(struct gateway *gw, const struct lookup_frame *frame) {
        uint64_t id_hash = log_id_hash(frame->tenant.p, frame->tenant.n, frame->id.p, frame->id.n);
        struct lookup *lookup;

        if (!lookups_have_database(gw) ||
                        (gw->lookups.resolving && is_for(gw->lookups.resolving, id_hash, frame)))
                return false;
        lookup = find(gw, id_hash, frame);
        if (!lookup && !may_be_stored(gw, id_hash))
                return false;
        if (!lookup)
                lookup = begin(gw, id_hash, frame);
        if (lookup && park(gw, lookup, frame))
                return true;
        counters_add(gw->w->counters, COUNTER_shed_door, 1);
        client_refuse(frame->conn->user, frame->id, MR_E_overloaded, "too much waits for the database",
                        gateway_retry_after_ms(gw));
        return true;
}

/* False: no room in the ring. */
static bool send_lookup(struct gateway *gw, struct lookup *lookup) {
        struct worker_out *out = gw->to_stream[lookup->lane];
        struct record record = {.has = HAS(id) | HAS(tenant),
                        .id = {lookup->id, lookup->id_len},
                        .tenant = {lookup->tenant, lookup->tenant_len}};
        struct ring_meta meta = {
                        .type = RECORD_LOOKUP, .flags = RING_LAST, .req_id = lookup->number};
        uint32_t bound = record_size_bound(&record), len;
        uint8_t *to;
        int r = ring_tx_begin(&out->tx, bound, &to);

        if (r == RING_E_BATCH) {
                ring_tx_commit(&out->tx);
                r = ring_tx_begin(&out->tx, bound, &to);
        }
        if (r < 0)
                worker_fail_lane(gw->w, lookup->lane, "lookup ring", r);
        if (r != 0) {
                out->blocked = true;
                out->want_bytes = bound;
                return false;
        }
        if (record_encode(&record, to, bound, &len) < 0)
                worker_fail(gw->w, "a lookup is longer than its bound", r);
        ring_tx_end(&out->tx, &meta, len);
        lookup->sent = true;
        return true;
}

unsigned lookups_turn(struct gateway *gw) {
        unsigned n = 0;

        if (!gw->lookups.unsent)
                return 0;
        gw->lookups.unsent = false;
        for (struct lookup *lookup = gw->lookups.all; lookup; lookup = lookup->next) {
                if (lookup->sent)
                        continue;
                if (lane_is_here(gw, lookup->lane) && send_lookup(gw, lookup))
                        n++;
                else
                        gw->lookups.unsent = true;
        }
        return n;
}

void lookups_lane_left(struct gateway *gw, uint32_t lane) {
        for (struct lookup *lookup = gw->lookups.all; lookup; lookup = lookup->next) {
                if (lookup->lane != lane)
                        continue;
                lookup->sent = false;
                lookup->lane = lane_of(gw, lookup->id_hash);
                gw->lookups.unsent = true;
        }
}

/* ---- answers ---- */

void lookup_answered(struct gateway *gw, const struct ring_msg *msg) {
        struct lookup *lookup = gw->lookups.all;
        struct parked *p;

        while (lookup && lookup->number != msg->req_id)
                lookup = lookup->next;
        if (!lookup)
                return; /* it took too long, or an earlier incarnation asked */
        p = unlink_lookup(gw, lookup);
        gw->lookups.resolving = lookup;
        gw->lookups.failed = msg->type == RECORD_ABSENT && msg->flags & RING_ERROR;
        while (p) {
                struct parked *next = p->next;

                if (p->conn->state != CONN_CLOSING)
                        gateway_ask(gw, p->conn->user, p->bytes, p->len);
                drop(gw, p);
                p = next;
        }
        gw->lookups.resolving = NULL;
        gw->lookups.failed = false;
        forget(gw, lookup);
}

void lookups_refuse(struct gateway *gw, enum mr_error code, const char *message) {
        while (gw->lookups.all)
                refuse(gw, gw->lookups.all, code, message);
}

void lookups_gone(struct gateway *gw, const struct conn *c) {
        for (struct lookup *lookup = gw->lookups.all; lookup; lookup = lookup->next) {
                struct parked **at = &lookup->first;

                while (*at) {
                        struct parked *p = *at;

                        if (p->conn != c) {
                                at = &p->next;
                                continue;
                        }
                        *at = p->next;
                        drop(gw, p);
                }
                lookup->last = at;
        }
}

void lookups_close(struct gateway *gw) {
        while (gw->lookups.all) {
                struct lookup *lookup = gw->lookups.all;

                for (struct parked *p = unlink_lookup(gw, lookup), *next; p; p = next) {
                        next = p->next;
                        drop(gw, p);
                }
                forget(gw, lookup);
        }
}
