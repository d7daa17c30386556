#include "world.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/segment.h"
#include "stages/engines/json/body.h"
#include "stages/engines/json/walk.h"

#define DEADLINE_NS (60 * NS_PER_S) /* only a hang comes that far */
#define ARENA_BODIES (256u << 10)

/* ---- memory --------------------------------------------------------------------------------- */

static void ring_new(
                struct world_ring *ring, uint32_t id, uint32_t kind, uint32_t n, uint64_t bytes) {
        void *prod, *cons;

        ring->geo = (struct ring_geometry){.id = id,
                        .n = n,
                        .max_batch = 64,
                        .max_rec = (uint32_t)bytes / 4,
                        .bytes = bytes,
                        .bound = n / 2};
        ring->topology = (struct topology_ring){.id = id, .kind = kind};
        ring->prod_fd = memfd_create("p", MFD_CLOEXEC);
        ring->cons_fd = memfd_create("c", MFD_CLOEXEC);
        ck_assert_int_eq(ftruncate(ring->prod_fd, (off_t)ring_prod_bytes(&ring->geo)), 0);
        ck_assert_int_eq(ftruncate(ring->cons_fd, (off_t)ring_cons_bytes(&ring->geo)), 0);
        prod = mmap(NULL, ring_prod_bytes(&ring->geo), PROT_READ | PROT_WRITE, MAP_SHARED,
                        ring->prod_fd, 0);
        cons = mmap(NULL, ring_cons_bytes(&ring->geo), PROT_READ | PROT_WRITE, MAP_SHARED,
                        ring->cons_fd, 0);
        ck_assert(prod != MAP_FAILED && cons != MAP_FAILED);
        ring_prod_format(prod);
        ring_cons_format(cons);
        munmap(prod, ring_prod_bytes(&ring->geo));
        munmap(cons, ring_cons_bytes(&ring->geo));
        ck_assert_int_eq(segment_map_ring(ring->prod_fd, ring->cons_fd, &ring->geo, true,
                                         &ring->prod),
                        0);
        ck_assert_int_eq(segment_map_ring(ring->prod_fd, ring->cons_fd, &ring->geo, false,
                                         &ring->cons),
                        0);
}

static void ring_free(struct world_ring *ring) {
        segment_unmap_ring(&ring->prod);
        segment_unmap_ring(&ring->cons);
        close(ring->prod_fd);
        close(ring->cons_fd);
}

static void *object_new(uint64_t bytes) {
        void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        ck_assert(map != MAP_FAILED);
        return map;
}

/* ---- settings ------------------------------------------------------------------------------- */

static char *copy(const char *s) {
        return s ? strdup(s) : NULL;
}

/* The model "any" and all others have every worker, in order; "none" is not there without "*". */
static struct settings *settings_new(const struct world_setup *setup) {
        struct settings *s;
        struct settings_model *model;

        ck_assert_int_eq(settings_default(&s), 0);
        for (uint32_t i = 0; i < s->inference.workers.n; i++)
                settings_shape_clear(&settings_worker_shape, &s->inference.workers.v[i]);
        free(s->inference.workers.v);
        s->inference.workers.n = setup->n_workers;
        s->inference.workers.v = calloc(setup->n_workers, sizeof(*s->inference.workers.v));
        for (uint32_t i = 0; i < setup->n_workers; i++) {
                struct settings_worker *to = &s->inference.workers.v[i];
                ck_assert_int_eq(settings_shape_default(&settings_worker_shape, to), 0);
                to->name = copy(setup->workers[i].name);
                to->kind = setup->workers[i].kind;
                to->base_url = copy(setup->workers[i].base_url);
                to->model = copy(setup->workers[i].model);
                to->api_key_env = copy(setup->workers[i].api_key_env);
                to->delay_ms = setup->workers[i].delay_ms;
                to->gap_ms = setup->workers[i].gap_ms;
                if (setup->workers[i].max_concurrency)
                        to->max_concurrency = setup->workers[i].max_concurrency;
                if (setup->workers[i].timeouts.first_token_ms)
                        to->timeouts.first_token_ms = setup->workers[i].timeouts.first_token_ms;
                if (setup->workers[i].timeouts.idle_ms)
                        to->timeouts.idle_ms = setup->workers[i].timeouts.idle_ms;
        }
        model = &s->inference.models.v[0];
        free(model->name);
        model->name = strdup("any");
        for (uint32_t i = 0; i < model->workers.n; i++)
                free(model->workers.v[i]);
        free(model->workers.v);
        model->workers.n = setup->n_workers;
        model->workers.v = calloc(setup->n_workers, sizeof(char *));
        for (uint32_t i = 0; i < setup->n_workers; i++)
                model->workers.v[i] = copy(setup->workers[i].name);
        s->inference.retry.attempts = setup->attempts ? setup->attempts : 1;
        s->inference.retry.base_ms = 1;
        if (setup->fail_on_crash)
                s->inference.on_crash = SETTINGS_ON_CRASH_FAIL;
        if (setup->max_response_bytes)
                s->admission.max_response_bytes = setup->max_response_bytes;
        return s;
}

/* ---- life ----------------------------------------------------------------------------------- */

void world_new(struct world *world, const struct world_setup *setup) {
        uint32_t n_slots = setup->n_slots ? setup->n_slots : 8;

        *world = (struct world){.setup = *setup, .now_req = 100};
        ring_new(&world->in, 1, RING_DATA, 256, 1u << 18);
        ring_new(&world->cancel, 2, RING_CANCEL, 256, 32768);
        ring_new(&world->out, 3, RING_DATA, 256, setup->ring_bytes ? setup->ring_bytes : 65536);
        world->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        world->slab_bytes = slab_bytes(n_slots, 256);
        world->slab = object_new(world->slab_bytes);
        slab_format(world->slab, n_slots, 256);
        world->admission = object_new(admission_bytes(64));
        admission_format(world->admission, 64, 0);
        world->arena = object_new(arena_bytes(ARENA_BODIES));
        arena_format(world->arena, ARENA_BODIES);
        ck_assert_int_eq(arena_attach(&world->arena_own, world->arena, arena_bytes(ARENA_BODIES)),
                        0);
        world->topology = object_new(topology_bytes());
        world->topology->n_lanes = 1;
        world->counters = object_new(counters_bytes());
        counters_format(world->counters);
        world->settings = settings_new(setup);
        ck_assert_int_eq(record_decoder_init(&world->decoder), 0);
        ck_assert_int_eq(ring_tx_attach(&world->requests, &world->in.prod, world->bell), 0);
        ck_assert_int_eq(ring_tx_attach(&world->cancels, &world->cancel.prod, world->bell), 0);
        ck_assert_int_eq(ring_rx_attach(&world->answers, &world->out.cons, world->bell, false), 0);
        world_start(world);
}

void world_start(struct world *world) {
        struct worker *w = calloc(1, sizeof(*w));

        w->ops = &inference_ops;
        w->settings = world->settings;
        w->topology = world->topology;
        w->counters = world->counters;
        ck_assert_int_eq(loop_new(&w->loop, 256), 0);
        ck_assert_int_eq(record_decoder_init(&w->decoder), 0);
        w->n_in = 2;
        w->in = calloc(2, sizeof(*w->in));
        w->in[0].ring = &world->in.topology;
        w->in[1].ring = &world->cancel.topology;
        w->n_out = 1;
        w->out = calloc(1, sizeof(*w->out));
        w->out[0].ring = &world->out.topology;
        w->slab_map = world->slab;
        w->slab_bytes = world->slab_bytes;
        ck_assert_int_eq(admission_view_init(
                                         &w->admissions[0], world->admission, admission_bytes(64)),
                        0);
        ck_assert_int_eq(
                        arena_view_init(&w->arenas[0], world->arena, arena_bytes(ARENA_BODIES)), 0);
        ck_assert_int_eq(inference_ops.init(w), 0);
        ck_assert_int_eq(ring_rx_attach(&w->in[0].rx, &world->in.cons, world->bell, false), 0);
        ck_assert_int_eq(ring_rx_attach(&w->in[1].rx, &world->cancel.cons, world->bell, false), 0);
        ck_assert_int_eq(ring_tx_attach(&w->out[0].tx, &world->out.prod, world->bell), 0);
        ck_assert_int_eq(inference_ops.attach(w), 0);
        world->w = w;
}

/* Leaving writes nothing to shared memory, so it is as good as a kill between two turns. */
void world_kill(struct world *world) {
        struct worker *w = world->w;

        if (!w)
                return;
        inference_ops.fini(w);
        for (uint32_t i = 0; i < w->n_in; i++)
                ring_rx_close(&w->in[i].rx);
        record_decoder_close(&w->decoder);
        loop_free(w->loop);
        free(w->in);
        free(w->out);
        free(w);
        world->w = NULL;
}

void world_free(struct world *world) {
        world_kill(world);
        ring_rx_close(&world->answers);
        ring_free(&world->in);
        ring_free(&world->cancel);
        ring_free(&world->out);
        arena_close(&world->arena_own);
        munmap(world->slab, world->slab_bytes);
        munmap(world->admission, admission_bytes(64));
        munmap(world->arena, arena_bytes(ARENA_BODIES));
        munmap(world->topology, topology_bytes());
        munmap(world->counters, counters_bytes());
        record_decoder_close(&world->decoder);
        settings_free(world->settings);
        close(world->bell);
}

/* ---- requests ------------------------------------------------------------------------------- */

static struct mr_view view(const char *s) {
        return (struct mr_view){s, s ? (uint32_t)strlen(s) : 0};
}

static struct body_span span_of(const char *body, const char *name) {
        struct json_text value, text = {body, (uint32_t)strlen(body)};

        if (!json_find(json_inside(text), name, &value))
                return (struct body_span){0};
        return (struct body_span){(uint32_t)(value.p - body), value.n};
}

static void marks_other(const struct world_request *request, struct body_found *found) {
        memset(found, 0, sizeof(*found));
        found->marks.model = span_of(request->body, "model");
        found->marks.stream = span_of(request->body, "stream");
        found->marks.last_user = span_of(request->body, "prompt");
        found->marks.object_end = (uint32_t)(strrchr(request->body, '}') - request->body);
}

static void body_set(struct world *world, const struct world_request *request,
                struct record *record, struct body_found *found) {
        struct body_scanner *scanner;
        struct arena_ref *ref = &world->body;
        uint8_t *data;

        if (request->endpoint == ENDPOINT_CHAT) {
                ck_assert_int_eq(body_scanner_new(&scanner), 0);
                ck_assert_int_eq(body_scan(scanner, BODY_CHAT, request->body,
                                                 (uint32_t)strlen(request->body), found),
                                0);
                body_scanner_free(scanner);
        } else {
                marks_other(request, found);
                record->has |= HAS(endpoint);
                record->endpoint = request->endpoint;
        }
        record->has |= HAS(marks) | HAS(body_len) | HAS(query);
        record->query = request->query ? view(request->query)
                                       : (struct mr_view){found->query, found->query_len};
        record->marks = (struct mr_view){(const char *)&found->marks, sizeof(found->marks)};
        record->body_len = strlen(request->body);
        if (!request->in_arena) {
                record->has |= HAS(body);
                record->body = view(request->body);
                return;
        }
        ck_assert_int_eq(arena_alloc(&world->arena_own, (uint32_t)record->body_len, ref, &data), 0);
        memcpy(data, request->body, record->body_len);
        record->has |= HAS(body_off) | HAS(body_gen);
        record->body_off = ref->off;
        record->body_gen = ref->gen;
}

static const msgpack_object *raw(struct world *world, const msgpack_sbuffer *buf) {
        const msgpack_object *object;

        ck_assert_int_eq(record_raw_parse(&world->decoder, buf->data, (uint32_t)buf->size, &object),
                        0);
        return object;
}

static void documents_pack(msgpack_sbuffer *buf, const struct world_request *request) {
        msgpack_packer pk;

        msgpack_packer_init(&pk, buf, msgpack_sbuffer_write);
        msgpack_pack_array(&pk, request->n_documents);
        for (uint32_t i = 0; i < request->n_documents; i++) {
                char id[16];
                int n = snprintf(id, sizeof(id), "doc%u", i + 1);
                msgpack_pack_array(&pk, 7);
                msgpack_pack_str_with_body(&pk, id, (size_t)n);
                msgpack_pack_str_with_body(&pk, "title", 5);
                msgpack_pack_str_with_body(&pk, "", 0);
                msgpack_pack_uint32(&pk, 0);
                msgpack_pack_uint32(&pk, (uint32_t)strlen(request->documents[i]));
                msgpack_pack_double(&pk, 1.5);
                msgpack_pack_str_with_body(
                                &pk, request->documents[i], strlen(request->documents[i]));
        }
}

static void pieces_pack(msgpack_sbuffer *buf, const struct world_request *request) {
        msgpack_packer pk;

        msgpack_packer_init(&pk, buf, msgpack_sbuffer_write);
        msgpack_pack_array(&pk, request->n_pieces);
        for (uint32_t i = 0; i < request->n_pieces; i++) {
                msgpack_pack_array(&pk, 2);
                msgpack_pack_uint64(&pk, request->pieces[i][0]);
                msgpack_pack_uint64(&pk, request->pieces[i][1]);
        }
}

uint64_t world_submit(struct world *world, const struct world_request *request) {
        static struct body_found found;
        struct record record = {.has = HAS(gateway) | HAS(id) | HAS(model) | HAS(prompt_tokens),
                        .prompt_tokens = 7};
        uint64_t req_id = world->now_req++;
        msgpack_sbuffer buf;
        char id[32];
        uint8_t *to;
        uint32_t len;

        snprintf(id, sizeof(id), "id-%llu", (unsigned long long)req_id);
        record.id = view(id);
        record.model = view(request->model ? request->model : "any");
        msgpack_sbuffer_init(&buf);
        if (request->body)
                body_set(world, request, &record, &found);
        if (request->deadline_ns) {
                record.has |= HAS(deadline_ns);
                record.deadline_ns = request->deadline_ns;
        }
        if (request->detached) {
                record.has |= HAS(options);
                record.options = OPTION_DETACH;
        }
        if (request->params) {
                record.has |= HAS(params);
                record.params = view(request->params);
        }
        if (request->n_documents) {
                documents_pack(&buf, request);
                record.has |= HAS(documents);
                record.documents = raw(world, &buf);
        } else if (request->n_pieces) {
                pieces_pack(&buf, request);
                record.has |= HAS(pieces);
                record.pieces = raw(world, &buf);
        }
        if (request->error) {
                record.has |= HAS(code) | HAS(message);
                record.code = request->error;
                record.message = view("raised earlier");
        }
        ck_assert_int_eq(ring_tx_begin(&world->requests, record_size_bound(&record), &to), 0);
        ck_assert_int_eq(record_encode(&record, to, record_size_bound(&record), &len), 0);
        ring_tx_end(&world->requests,
                        &(struct ring_meta){.type = request->error ? RECORD_ERROR : RECORD_REQUEST,
                                        .req_id = req_id,
                                        .t0 = world_now()},
                        len);
        ring_tx_commit(&world->requests);
        msgpack_sbuffer_destroy(&buf);
        return req_id;
}

uint64_t world_say(struct world *world, const char *text) {
        char body[8192];

        snprintf(body, sizeof(body), "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                        text);
        return world_submit(world, &(struct world_request){.body = body});
}

void world_cancel(struct world *world, uint64_t req_id, uint64_t reason) {
        struct record record = {.has = HAS(reason), .reason = reason};
        uint8_t *to;
        uint32_t len;

        ck_assert_int_eq(ring_tx_begin(&world->cancels, 64, &to), 0);
        ck_assert_int_eq(record_encode(&record, to, 64, &len), 0);
        ring_tx_end(&world->cancels, &(struct ring_meta){.type = RECORD_CANCEL, .req_id = req_id},
                        len);
        ring_tx_commit(&world->cancels);
}

/* ---- answers -------------------------------------------------------------------------------- */

static void append(char *to, size_t cap, struct mr_view text) {
        size_t n = strlen(to);

        ck_assert_uint_lt(n + text.n, cap);
        memcpy(to + n, text.p, text.n);
        to[n + text.n] = '\0';
}

static void take_tool(struct world_answer *answer, const msgpack_object *map) {
        for (uint32_t i = 0; i < map->via.map.size; i++) {
                const msgpack_object *value = &map->via.map.ptr[i].val;
                if (value->type == MSGPACK_OBJECT_STR)
                        append(answer->tool, sizeof(answer->tool),
                                        (struct mr_view){value->via.str.ptr, value->via.str.size});
        }
}

static void take_delta(struct world_answer *answer, const struct record *record) {
        answer->n_deltas++;
        if (record->has & HAS(text) && record->has & HAS(delta_kind))
                append(answer->reasoning, sizeof(answer->reasoning), record->text);
        else if (record->has & HAS(text))
                append(answer->text, sizeof(answer->text), record->text);
        if (record->has & HAS(tool))
                take_tool(answer, record->tool);
}

static void take_end(struct world_answer *answer, const struct record *record, uint16_t type) {
        answer->n_ends++;
        answer->code = type == RECORD_ERROR ? (enum mr_error)record->code : MR_E_none;
        if (type == RECORD_ERROR) {
                append(answer->message, sizeof(answer->message), record->message);
                answer->retry_after_ms =
                                record->has & HAS(retry_after_ms) ? record->retry_after_ms : 0;
                return;
        }
        append(answer->finish, sizeof(answer->finish), record->finish_reason);
        append(answer->worker, sizeof(answer->worker), record->worker);
        answer->prompt_tokens = record->prompt_tokens;
        answer->completion_tokens = record->completion_tokens;
        answer->n_sources = record->has & HAS(sources) ? record->sources->via.array.size : 0;
}

static void take(struct world *world, const struct ring_msg *msg, struct world_answer *answer) {
        struct record record;

        ck_assert_uint_eq(msg->ord, answer->next_ord);
        answer->next_ord++;
        ck_assert_uint_eq(answer->n_ends, 0);
        ck_assert_int_eq(record_decode(&world->decoder, msg->data, msg->len, &record), 0);
        ck_assert_int_eq(msg->type == RECORD_REQUEST, msg->ord == 0);
        if (record.has & HAS(extra))
                append(answer->extra, sizeof(answer->extra), record.extra);
        if (msg->type == RECORD_REQUEST) {
                answer->n_heads++;
                ck_assert_uint_eq(record.has & ~(uint64_t)RECORD_HEAD, 0);
                append(answer->id, sizeof(answer->id), record.id);
        } else if (msg->type == RECORD_RESTART) { /* what was said is void */
                answer->n_restarts++;
                answer->text[0] = '\0';
        } else if (msg->type == RECORD_DELTA) {
                take_delta(answer, &record);
        } else {
                ck_assert(msg->flags & RING_LAST);
                take_end(answer, &record, msg->type);
        }
}

void world_take(struct world *world, uint64_t req_id, struct world_answer *answer) {
        const struct ring_msg *msg;

        while (ring_rx_peek(&world->answers, &msg) == 0) {
                uint64_t seq = msg->seq;
                ring_rx_take(&world->answers);
                if (msg->req_id == req_id)
                        take(world, msg, answer);
                ring_rx_ack(&world->answers, seq);
        }
        ring_rx_idle(&world->answers);
        ring_rx_flush(&world->answers, true);
}

void world_turn(struct world *world) {
        ck_assert_int_ge(loop_turn(world->w->loop, 0), 0);
        for (uint32_t i = 0; i < world->w->n_out; i++)
                world->w->out[i].blocked = false;
        if (inference_ops.turn(world->w) == 0)
                ck_assert_int_ge(loop_turn(world->w->loop, world_now() + NS_PER_MS), 0);
}

void world_finish(struct world *world, uint64_t req_id, struct world_answer *answer) {
        uint64_t until = world_now() + DEADLINE_NS;

        while (answer->n_ends == 0) {
                world_turn(world);
                world_take(world, req_id, answer);
                ck_assert_msg(world_now() < until, "request %llu does not end",
                                (unsigned long long)req_id);
        }
}

uint64_t world_now(void) {
        return clock_now_ns();
}
