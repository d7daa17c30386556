#include "tests/stages/gateway/rig.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/doorbell.h"

#define LOG_BUDGET (4u << 20)
#define EVENT_MAX (300u * 1024)
#define QUIET_TURNS 4
#define PATIENCE_MS 400

static void *memory(struct rig *rig, uint64_t bytes) {
        void *p = aligned_alloc(LAYOUT_PAGE, layout_align(bytes, LAYOUT_PAGE));

        ck_assert_ptr_nonnull(p);
        memset(p, 0, layout_align(bytes, LAYOUT_PAGE));
        rig->memory[rig->n_memory++] = p;
        return p;
}

/* ---- rings ---- */

static int object(uint64_t bytes) {
        int fd = memfd_create("rig", MFD_CLOEXEC);

        ck_assert_int_ne(fd, -1);
        ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
        return fd;
}

static void ring_make(struct rig *rig, const struct topology_ring *row, struct ring_map *prod,
                struct ring_map *cons) {
        struct ring_geometry geo;
        int prod_fd, cons_fd;

        (void)rig;
        topology_geometry(row, &geo);
        prod_fd = object(ring_prod_bytes(&geo));
        cons_fd = object(ring_cons_bytes(&geo));
        ck_assert_int_eq(segment_map_ring(prod_fd, cons_fd, &geo, true, prod), 0);
        ck_assert_int_eq(segment_map_ring(prod_fd, cons_fd, &geo, false, cons), 0);
        ring_prod_format(prod->prod);
        ring_cons_format(cons->cons);
        close(prod_fd);
        close(cons_fd);
}

static struct topology_ring *row_add(struct rig *rig, uint32_t kind, uint32_t lane, uint32_t from,
                uint32_t to, uint32_t bound, uint64_t bytes) {
        struct topology_ring *row = &rig->topology->rings[rig->topology->n_rings++];

        *row = (struct topology_ring){.id = rig->topology->n_rings,
                        .kind = kind,
                        .lane = lane,
                        .from = from,
                        .to = to,
                        .n = 256,
                        .max_batch = 64,
                        .max_rec = (uint32_t)(bytes / 4),
                        .bound = bound,
                        .bytes = bytes};
        return row;
}

/* Rings and log as they are in the beginning, and our ends of them. */
static void lane_format(struct rig *rig, uint32_t l) {
        struct rig_lane *lane = &rig->lane[l];
        struct worker *w = &rig->w;
        uint32_t responses, extents;
        uint64_t bytes = log_bytes(LOG_BUDGET, &responses, &extents);

        ring_make(rig, w->out[3 * l].ring, &lane->maps[0], &lane->maps[1]);
        ring_make(rig, w->out[3 * l + 1].ring, &lane->maps[2], &lane->maps[3]);
        ring_make(rig, w->in[l].ring, &lane->maps[4], &lane->maps[5]);
        ring_make(rig, w->out[3 * l + 2].ring, &lane->maps[6], &lane->maps[7]);
        ck_assert_int_eq(ring_rx_attach(&lane->requests, &lane->maps[1], -1, false), 0);
        ck_assert_int_eq(ring_rx_attach(&lane->cancels, &lane->maps[3], -1, false), 0);
        ck_assert_int_eq(ring_tx_attach(&lane->notices, &lane->maps[4], -1), 0);
        ck_assert_int_eq(ring_rx_attach(&lane->lookups, &lane->maps[7], -1, false), 0);
        lane->n_responses = lane->n_extents = 0;
        lane->log = memory(rig, bytes);
        log_format(lane->log, LOG_BUDGET, l);
        atomic_store(&lane->log->stored_known, 1); /* the database has nothing */
        ck_assert_int_eq(log_view_init(&w->logs[l], lane->log, bytes), 0);
}

static void lane_new(struct rig *rig, uint32_t l) {
        struct topology_shm *t = rig->topology;
        uint32_t slot = rig->w.hello.slot;
        struct topology_ring *data = row_add(
                        rig, RING_DATA, l, slot, topology_proc_stage(t, l, ROLE_RAG), 64, 1 << 20);
        struct topology_ring *cancel = row_add(rig, RING_CANCEL, l, slot,
                        topology_proc_stage(t, l, ROLE_INFERENCE), 128, 32768);
        struct topology_ring *notice = row_add(rig, RING_NOTICE, l,
                        topology_proc_stage(t, l, ROLE_STREAM), slot, 128, 32768);
        struct topology_ring *lookup = row_add(rig, RING_LOOKUP, l, slot,
                        topology_proc_stage(t, l, ROLE_STREAM), 128, 32768);

        rig->w.out[3 * l].ring = data;
        rig->w.out[3 * l + 1].ring = cancel;
        rig->w.out[3 * l + 2].ring = lookup;
        rig->w.in[l].ring = notice;
        lane_format(rig, l);
}

/* ---- the gateway ---- */

static void lane_attach(struct rig *rig, uint32_t l) {
        struct rig_lane *lane = &rig->lane[l];
        struct worker *w = &rig->w;

        ck_assert_int_eq(ring_tx_attach(&w->out[3 * l].tx, &lane->maps[0], -1), 0);
        ck_assert_int_eq(ring_tx_attach(&w->out[3 * l + 1].tx, &lane->maps[2], -1), 0);
        ck_assert_int_eq(ring_tx_attach(&w->out[3 * l + 2].tx, &lane->maps[6], -1), 0);
        ck_assert_int_eq(ring_rx_attach(&w->in[l].rx, &lane->maps[5], -1, false), 0);
}

static void start(struct rig *rig) {
        struct worker *w = &rig->w;

        ck_assert_int_eq(loop_new(&w->loop, 256), 0);
        ck_assert_int_eq(record_decoder_init(&w->decoder), 0);
        for (uint32_t l = 0; l < rig->n_lanes; l++)
                lane_attach(rig, l);
        w->ops = &stage_gateway;
        w->draining = w->closing = w->cut = false;
        ck_assert_int_eq(stage_gateway.init(w), 0);
        ck_assert_int_eq(stage_gateway.attach(w), 0);
        rig->gw = w->stage;
        rig->http = http_listen(rig->gw, -1, "127.0.0.1:0");
        ck_assert_ptr_nonnull(rig->http);
        rig->alive = true;
}

void rig_new(struct rig *rig, const struct rig_setup *setup) {
        struct worker *w = &rig->w;
        uint32_t n_slots = setup->lanes * setup->max_in_flight;
        uint64_t bytes = admission_bytes(n_slots);

        memset(rig, 0, sizeof(*rig));
        rig->n_lanes = setup->lanes;
        rig->topology = memory(rig, topology_bytes());
        *rig->topology = (struct topology_shm){.generation = 77,
                        .n_lanes = setup->lanes,
                        .n_gateways = 1,
                        .n_gateway_slots = 2,
                        .max_in_flight = setup->max_in_flight,
                        .arena_bytes = setup->arena_bytes ? setup->arena_bytes : 1u << 20,
                        .n_slots_admission = n_slots};
        w->topology = rig->topology;
        w->hello.slot = setup->slot;
        ck_assert_int_eq(settings_default(&w->settings), 0);
        if (setup->settings)
                setup->settings(w->settings);
        w->counters = memory(rig, counters_bytes());
        counters_format(w->counters);
        for (size_t i = 0; i < sizeof(w->bells) / sizeof(w->bells[0]); i++)
                w->bells[i] = -1;
        for (size_t i = 0; i < sizeof(w->listeners) / sizeof(w->listeners[0]); i++)
                w->listeners[i] = -1;
        rig->own = memory(rig, bytes);
        rig->other = memory(rig, bytes);
        admission_format(rig->own, n_slots, setup->slot);
        admission_format(rig->other, n_slots, !setup->slot);
        ck_assert_int_eq(admission_view_init(&w->admissions[!setup->slot], rig->other, bytes), 0);
        w->admission = rig->own;
        rig->arena_bytes = arena_bytes(rig->topology->arena_bytes);
        rig->arena = memory(rig, rig->arena_bytes);
        arena_format(rig->arena, rig->topology->arena_bytes);
        w->arena_map = rig->arena;
        w->arena_map_bytes = rig->arena_bytes;
        ck_assert_int_eq(arena_view_init(&rig->view, rig->arena, rig->arena_bytes), 0);
        ck_assert_int_eq(record_decoder_init(&rig->decoder), 0);
        w->n_out = 3 * setup->lanes;
        w->n_in = setup->lanes;
        w->out = calloc(w->n_out, sizeof(*w->out));
        w->in = calloc(w->n_in, sizeof(*w->in));
        for (uint32_t l = 0; l < setup->lanes; l++)
                lane_new(rig, l);
        start(rig);
}

/* What the process's end does: nothing shared is touched any more. */
void rig_kill(struct rig *rig) {
        struct worker *w = &rig->w;

        rig->alive = false;
        stage_gateway.fini(w);
        record_decoder_close(&w->decoder);
        w->loop = loop_free(w->loop);
        for (uint32_t l = 0; l < rig->n_lanes; l++)
                ring_rx_close(&w->in[l].rx);
}

void rig_revive(struct rig *rig) {
        start(rig);
}

void rig_free(struct rig *rig) {
        if (rig->alive)
                rig_kill(rig);
        for (uint32_t l = 0; l < rig->n_lanes; l++) {
                ring_rx_close(&rig->lane[l].requests);
                ring_rx_close(&rig->lane[l].cancels);
                ring_rx_close(&rig->lane[l].lookups);
                for (int i = 0; i < 8; i++)
                        segment_unmap_ring(&rig->lane[l].maps[i]);
        }
        record_decoder_close(&rig->decoder);
        settings_free(rig->w.settings);
        free(rig->w.out);
        free(rig->w.in);
        for (uint32_t i = 0; i < rig->n_memory; i++)
                free(rig->memory[i]);
}

void rig_lane_state(struct rig *rig, uint32_t lane, enum lane_state state, uint64_t generation) {
        atomic_store(&rig->topology->lane_state[lane], lane_word(state, generation));
        rig_settle(rig);
}

/* The gateway has unmapped its own ends already. */
void rig_lane_back(struct rig *rig, uint32_t l, uint64_t generation) {
        static const int theirs[] = {0, 2, 5, 6}, ours[] = {1, 3, 4, 7};
        struct rig_lane *lane = &rig->lane[l];

        ck_assert_ptr_null(rig->w.logs[l].shm);
        ring_rx_close(&lane->requests);
        ring_rx_close(&lane->cancels);
        ring_rx_close(&lane->lookups);
        for (int i = 0; i < 4; i++) {
                lane->maps[theirs[i]] = (struct ring_map){.prod = NULL};
                segment_unmap_ring(&lane->maps[ours[i]]);
        }
        lane_format(rig, l);
        lane_attach(rig, l);
        atomic_store(&rig->topology->lane_state[l], lane_word(LANE_RUNNING, generation));
        stage_gateway.lane(&rig->w, l, generation);
        rig_settle(rig);
}

unsigned rig_turn(struct rig *rig) {
        int n = loop_turn(rig->w.loop, 0);

        ck_assert_int_ge(n, 0);
        for (uint32_t i = 0; i < rig->w.n_out; i++)
                rig->w.out[i].blocked = false;
        return (unsigned)n + stage_gateway.turn(&rig->w);
}

void rig_settle(struct rig *rig) {
        for (int quiet = 0; quiet < QUIET_TURNS;)
                quiet = rig_turn(rig) == 0 && stage_gateway.may_sleep(&rig->w) ? quiet + 1 : 0;
}

void rig_wait_ms(struct rig *rig, unsigned ms) {
        uint64_t until = clock_now_ns() + ms * NS_PER_MS;

        while (clock_now_ns() < until) {
                rig_settle(rig);
                ck_assert_int_ge(loop_turn(rig->w.loop, clock_now_ns() + NS_PER_MS), 0);
        }
        rig_settle(rig);
}

/* ---- a client ---- */

void rig_connect(struct rig *rig, struct rig_client *c) {
        int pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        ck_assert_int_eq(conn_adopt(rig->gw->socket, pair[0]), 0);
        c->fd = pair[1];
        ck_assert(msgpack_unpacker_init(&c->unpacker, 65536));
        msgpack_unpacked_init(&c->event);
        rig_settle(rig);
}

void rig_disconnect(struct rig_client *c) {
        close(c->fd);
        msgpack_unpacker_destroy(&c->unpacker);
        msgpack_unpacked_destroy(&c->event);
}

void rig_send(struct rig_client *c, const void *bytes, size_t n) {
        ck_assert_int_eq(send(c->fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void put(msgpack_packer *pk, const char *text) {
        msgpack_pack_str(pk, strlen(text));
        msgpack_pack_str_body(pk, text, strlen(text));
}

void rig_say(struct rig_client *c, ...) {
        msgpack_sbuffer out;
        msgpack_packer pk;
        const char *word;
        uint32_t n = 0;
        va_list ap;

        va_start(ap, c);
        while (va_arg(ap, const char *))
                n++;
        va_end(ap);
        msgpack_sbuffer_init(&out);
        msgpack_packer_init(&pk, &out, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, n / 2);
        va_start(ap, c);
        while ((word = va_arg(ap, const char *)))
                put(&pk, word);
        va_end(ap);
        rig_send(c, out.data, out.size);
        msgpack_sbuffer_destroy(&out);
}

static bool parse_next(struct rig_client *c) {
        return msgpack_unpacker_next(&c->unpacker, &c->event) == MSGPACK_UNPACK_SUCCESS;
}

const msgpack_object *rig_event(struct rig *rig, struct rig_client *c) {
        uint64_t until = clock_now_ns() + PATIENCE_MS * NS_PER_MS;

        do {
                ssize_t n;

                if (parse_next(c))
                        return &c->event.data;
                rig_settle(rig);
                msgpack_unpacker_reserve_buffer(&c->unpacker, 65536);
                n = recv(c->fd, msgpack_unpacker_buffer(&c->unpacker), 65536, MSG_DONTWAIT);
                if (n > 0)
                        msgpack_unpacker_buffer_consumed(&c->unpacker, (size_t)n);
                else if (n == 0)
                        return parse_next(c) ? &c->event.data : NULL;
                else
                        poll(NULL, 0, 1);
        } while (clock_now_ns() < until);
        return NULL;
}

bool rig_closed(struct rig *rig, struct rig_client *c) {
        char byte;

        for (int i = 0; i < PATIENCE_MS; i++) {
                ssize_t n;

                rig_settle(rig);
                n = recv(c->fd, &byte, 1, MSG_DONTWAIT);
                if (n == 0 || (n < 0 && errno == ECONNRESET))
                        return true;
                poll(NULL, 0, 1);
        }
        return false;
}

const msgpack_object *rig_get(const msgpack_object *map, const char *name) {
        if (!map || map->type != MSGPACK_OBJECT_MAP)
                return NULL;
        for (uint32_t i = 0; i < map->via.map.size; i++) {
                const msgpack_object *key = &map->via.map.ptr[i].key;

                if (key->type == MSGPACK_OBJECT_STR && key->via.str.size == strlen(name) &&
                                memcmp(key->via.str.ptr, name, key->via.str.size) == 0)
                        return &map->via.map.ptr[i].val;
        }
        return NULL;
}

bool rig_is(const msgpack_object *map, const char *name, const char *text) {
        const msgpack_object *value = rig_get(map, name);

        return value && value->type == MSGPACK_OBJECT_STR && value->via.str.size == strlen(text) &&
               memcmp(value->via.str.ptr, text, strlen(text)) == 0;
}

uint64_t rig_u64(const msgpack_object *map, const char *name) {
        const msgpack_object *value = rig_get(map, name);

        ck_assert_msg(value && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER, "no number %s",
                        name);
        return value->via.u64;
}

static void describe(const msgpack_object *event) {
        if (event) {
                msgpack_object_print(stderr, *event);
                fputc('\n', stderr);
        }
}

const msgpack_object *rig_expect(struct rig *rig, struct rig_client *c, const char *ev) {
        const msgpack_object *event = rig_event(rig, c);

        if (!event || !rig_is(event, "ev", ev))
                describe(event);
        ck_assert_msg(event != NULL, "no event came, expected %s", ev);
        ck_assert_msg(rig_is(event, "ev", ev), "expected %s", ev);
        return event;
}

void rig_expect_refusal(struct rig *rig, struct rig_client *c, const char *code, const char *text) {
        const msgpack_object *event = rig_expect(rig, c, "error"), *message;
        bool ok = rig_is(event, "code", code) && !rig_get(event, "seq");

        message = rig_get(event, "message");
        if (ok && text)
                ok = memmem(message->via.str.ptr, message->via.str.size, text, strlen(text)) !=
                     NULL;
        if (!ok)
                describe(event);
        ck_assert_msg(ok, "expected a refusal with code %s that says \"%s\"", code,
                        text ? text : "");
}

/* ---- a client over HTTP ---- */

void rig_http_connect(struct rig *rig, struct rig_http *c) {
        int pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        ck_assert_int_eq(conn_adopt(rig->http, pair[0]), 0);
        c->fd = pair[1];
        c->len = 0;
        rig_settle(rig);
}

void rig_http_say(struct rig_http *c, const char *text) {
        ck_assert_int_eq(send(c->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* False: the end. */
static bool http_read(struct rig_http *c) {
        ssize_t n = recv(c->fd, c->got + c->len, sizeof(c->got) - 1 - c->len, MSG_DONTWAIT);

        if (n > 0)
                c->len += (uint32_t)n;
        c->got[c->len] = '\0';
        return n > 0 || (n < 0 && errno == EAGAIN);
}

void rig_http_expect(struct rig *rig, struct rig_http *c, const char *text) {
        uint64_t until = clock_now_ns() + PATIENCE_MS * NS_PER_MS;
        bool more;

        do {
                rig_settle(rig);
                more = http_read(c);
                if (strstr(c->got, text))
                        return;
                poll(NULL, 0, 1);
        } while (more && clock_now_ns() < until);
        ck_abort_msg("expected \"%s\", got \"%s\"", text, c->got);
}

void rig_http_take(struct rig *rig, struct rig_http *c, const char *text) {
        uint32_t n;

        rig_http_expect(rig, c, text);
        n = (uint32_t)(strstr(c->got, text) - c->got + (ptrdiff_t)strlen(text));
        c->len -= n;
        memmove(c->got, c->got + n, c->len + 1);
}

bool rig_http_closed(struct rig *rig, struct rig_http *c) {
        uint64_t until = clock_now_ns() + PATIENCE_MS * NS_PER_MS;

        while (clock_now_ns() < until) {
                rig_settle(rig);
                if (!http_read(c))
                        return true;
                poll(NULL, 0, 1);
        }
        return false;
}

/* ---- a lane ---- */

bool rig_take(struct rig *rig, uint32_t lane, struct record *ret, uint64_t *ret_req_id) {
        struct ring_rx *rx = &rig->lane[lane].requests;
        const struct ring_msg *msg;

        rig_settle(rig);
        if (ring_rx_peek(rx, &msg) != 0)
                return false;
        ck_assert_int_eq(msg->type, RECORD_REQUEST);
        ck_assert_int_eq(record_decode(&rig->decoder, msg->data, msg->len, ret), 0);
        if (ret_req_id)
                *ret_req_id = msg->req_id;
        uint64_t seq = msg->seq;
        ring_rx_take(rx);
        ring_rx_ack(rx, seq);
        ring_rx_flush(rx, true);
        return true;
}

uint64_t rig_take_cancel(struct rig *rig, uint32_t lane, uint64_t *ret_req_id) {
        struct ring_rx *rx = &rig->lane[lane].cancels;
        const struct ring_msg *msg;
        struct record record;

        rig_settle(rig);
        if (ring_rx_peek(rx, &msg) != 0)
                return 0;
        ck_assert_int_eq(msg->type, RECORD_CANCEL);
        ck_assert_int_eq(record_decode(&rig->decoder, msg->data, msg->len, &record), 0);
        ck_assert(record.has & HAS(reason));
        if (ret_req_id)
                *ret_req_id = msg->req_id;
        uint64_t seq = msg->seq;
        ring_rx_take(rx);
        ring_rx_ack(rx, seq);
        ring_rx_flush(rx, true);
        return record.reason;
}

uint32_t rig_response(
                struct rig *rig, uint32_t lane, uint64_t req_id, const struct record *request) {
        struct rig_lane *l = &rig->lane[lane];
        uint32_t i = l->n_responses++;
        struct log_response *r = &l->log->responses[i];

        ck_assert(i < l->log->n_responses);
        r->id_len = (uint16_t)request->id.n;
        r->tenant_len = (uint16_t)request->tenant.n;
        memcpy(r->id, request->id.p, request->id.n);
        memcpy(r->tenant, request->tenant.p, request->tenant.n);
        r->digest[0] = request->digest_hi;
        r->digest[1] = request->digest_lo;
        r->flags = request->options & OPTION_DETACH ? LOG_RESPONSE_DETACHED : 0;
        uint64_t hash = log_id_hash(r->tenant, r->tenant_len, r->id, r->id_len);
        atomic_store(&r->id_hash, hash);
        atomic_store(&r->created_ns, clock_now_ns());
        atomic_store(&r->state, LOG_OPEN);
        atomic_fetch_add(log_presence(l->log, hash), 1);
        atomic_store(log_chain(l->log, req_id), i + 1);
        atomic_store(&r->req_id, req_id);
        return i;
}

static void append(struct rig_lane *l, struct log_response *r, uint64_t *pos, const void *bytes,
                uint32_t n, bool begins) {
        struct log_extent *extents = log_extents(l->log);
        const uint8_t *from = bytes;

        while (n > 0) {
                uint32_t at = (uint32_t)(*pos % LOG_EXTENT_DATA), part = LOG_EXTENT_DATA - at;
                struct log_extent *e;

                if (at == 0) {
                        uint32_t i = l->n_extents++;

                        ck_assert(i < l->log->n_extents);
                        e = &extents[i];
                        atomic_store(&e->req_id, atomic_load(&r->req_id));
                        atomic_store(&e->start, *pos << 16 | LOG_EXTENT_DATA);
                        atomic_store(&e->gen, atomic_load(&e->gen) + 1);
                        if (r->tail[0].extent)
                                atomic_store(&extents[r->tail[0].extent - 1].next, i + 1);
                        else
                                atomic_store(&r->first, i + 1);
                        r->tail[0].extent = i + 1;
                }
                e = &extents[r->tail[0].extent - 1];
                if (begins && (atomic_load(&e->start) & 0xffff) == LOG_EXTENT_DATA)
                        atomic_store(&e->start, (*pos - at) << 16 | at);
                begins = false;
                part = part < n ? part : n;
                memcpy(e->data + at, from, part);
                from += part;
                n -= part;
                *pos += part;
        }
}

static void notice(struct rig *rig, uint32_t lane, uint64_t req_id) {
        struct rig_lane *l = &rig->lane[lane];
        struct ring_meta meta = {.type = RECORD_NOTICE, .flags = RING_LAST, .req_id = req_id};
        struct admission_view view;
        uint64_t flags;
        uint8_t *to;

        ck_assert_int_eq(admission_view_init(&view, rig->own, admission_bytes(rig->own->n_slots)),
                        0);
        if (follow_get(&view, req_id, &flags) != 0)
                return;
        if (l->silent || ring_tx_begin(&l->notices, 0, &to) != 0) {
                atomic_fetch_add(&l->log->missed[rig->w.hello.slot], 1);
                return;
        }
        ring_tx_end(&l->notices, &meta, 0);
        ring_tx_commit(&l->notices);
}

void rig_log(struct rig *rig, uint32_t lane, uint32_t response, uint16_t type, uint64_t seq,
                const struct record *event, uint64_t outcome) {
        static uint8_t payload[EVENT_MAX];
        struct log_response *r = &rig->lane[lane].log->responses[response];
        uint64_t pos = atomic_load(&r->end);
        struct log_event_head head = {.type = type, .seq = seq, .in_seq = seq};
        static const uint8_t zero[8];

        ck_assert_int_eq(record_encode(event, payload, sizeof(payload), &head.len), 0);
        append(&rig->lane[lane], r, &pos, &head, sizeof(head), true);
        append(&rig->lane[lane], r, &pos, payload, head.len, false);
        append(&rig->lane[lane], r, &pos, zero, (8 - head.len % 8) % 8, false);
        if (outcome)
                atomic_store(&r->outcome, outcome);
        atomic_store(&r->end, pos);
        if (outcome) {
                atomic_store(&r->finished_ns, clock_now_ns());
                atomic_store(&r->state, LOG_FINISHED);
        }
        notice(rig, lane, atomic_load(&r->req_id));
}

void rig_delta(struct rig *rig, uint32_t lane, uint32_t response, uint64_t seq, const char *text) {
        struct record record = {.has = HAS(text), .text = {text, (uint32_t)strlen(text)}};

        rig_log(rig, lane, response, RECORD_DELTA, seq, &record, 0);
}

void rig_done(struct rig *rig, uint32_t lane, uint32_t response, uint64_t seq) {
        struct record record = {.has = HAS(finish_reason) | HAS(prompt_tokens) |
                                       HAS(completion_tokens) | HAS(total_tokens) | HAS(rag_us),
                        .finish_reason = {"stop", 4},
                        .prompt_tokens = 5,
                        .completion_tokens = 7,
                        .total_tokens = 12,
                        .rag_us = 31};

        rig_log(rig, lane, response, RECORD_DONE, seq, &record, LOG_OUTCOME_DONE);
}

void rig_error(struct rig *rig, uint32_t lane, uint32_t response, uint64_t seq,
                enum mr_error code) {
        struct record record = {.has = HAS(code) | HAS(message),
                        .code = code,
                        .message = {"it went wrong", 13}};

        rig_log(rig, lane, response, RECORD_ERROR, seq, &record,
                        code == MR_E_cancelled     ? LOG_OUTCOME_CANCELLED
                        : mr_error_retryable(code) ? LOG_OUTCOME_RETRYABLE
                                                   : LOG_OUTCOME_FAILED);
}

void rig_evict(struct rig *rig, uint32_t lane, uint32_t response) {
        struct log_response *r = &rig->lane[lane].log->responses[response];
        struct log_extent *extents = log_extents(rig->lane[lane].log);
        uint64_t at = atomic_load(&r->first);

        atomic_store(&r->state, LOG_EVICTED);
        while (at) {
                atomic_fetch_add(&extents[at - 1].gen, 1);
                at = atomic_load(&extents[at - 1].next);
        }
        atomic_store(&r->first, 0);
}

void rig_restart(struct rig *rig, uint32_t lane, uint32_t response, uint64_t restart) {
        struct log_response *r = &rig->lane[lane].log->responses[response];

        if (restart == 0) {
                atomic_store(&r->end, 0);
                atomic_store(&r->first, 0);
                memset(r->tail, 0, sizeof(r->tail));
        }
        atomic_store(&r->restart, restart ? 7u << LOG_RESTART_SHIFT | restart : 0);
        if (restart != LOG_RESTART_ASKED && restart != LOG_RESTART_DROP)
                notice(rig, lane, atomic_load(&r->req_id));
}
