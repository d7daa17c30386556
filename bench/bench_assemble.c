/*
 * bench_assemble -- what the assembling of a prompt costs a body of 220 KB, beside copying and scanning it.
 *
 *      bench_assemble
 *
 * Prints two lines of two numbers, medians of alternating rounds, in ns: the prompt made of a body in an arena (system
 * text and three documents put in, then all pieces copied out, as inference does) and a memcpy with one walk over the
 * JSON of it; the same with a context that is enforced, where the tokens of the whole body are estimated.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stages/assemble/templates.h"
#include "stages/common/settings.h"
#include "stages/engines/json/body.h"
#include "stages/engines/json/walk.h"

#define ROUNDS 101
#define BODY_BYTES (220u * 1024u)
#define ARENA_BYTES (1u << 20)
#define DOCUMENTS 3u
#define COLUMNS 7u

static char body[BODY_BYTES + 256], out[BODY_BYTES * 2];
static uint32_t n_body;
static msgpack_object cells[DOCUMENTS][COLUMNS], rows[DOCUMENTS];
static msgpack_object list = {.type = MSGPACK_OBJECT_ARRAY, .via.array = {DOCUMENTS, rows}};
static struct prompt prompt;
static struct templates templates;
static struct record record;
static struct arena_view view;
static const struct counters_shm *pages[PROCS_MAX];

static double now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int by_size(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static _Noreturn void give_up(const char *what) {
        fprintf(stderr, "bench_assemble: %s\n", what);
        exit(1);
}

/* ---- what is assembled ---- */

static void body_make(void) {
        static const char words[] = "The wheel turns while the gate is open, said the miller. \\\"Is it?\\\" ";
        const uint32_t n = sizeof(words) - 1;

        n_body = (uint32_t)snprintf(body, sizeof(body), "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"");
        while (n_body + n < BODY_BYTES - 8) {
                memcpy(body + n_body, words, n);
                n_body += n;
        }
        memcpy(body + n_body, "\"}]}", 4);
        n_body += 4;
}

static void documents_make(void) {
        static const char text[] = "A weir holds the water back and lets what is too much run over.";

        for (uint32_t i = 0; i < DOCUMENTS; i++) {
                for (uint32_t k = 0; k < COLUMNS; k++)
                        cells[i][k] = (msgpack_object){.type = MSGPACK_OBJECT_STR,
                                        .via.str = {sizeof(text) - 1, text}};
                rows[i] = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY, .via.array = {COLUMNS, cells[i]}};
        }
}

static void record_make(struct body_found *found) {
        struct body_scanner *scanner;
        struct arena arena;
        struct arena_ref ref;
        uint8_t *to;
        void *map = calloc(1, arena_bytes(ARENA_BYTES));

        if (!map || body_scanner_new(&scanner) || body_scan(scanner, BODY_CHAT, body, n_body, found))
                give_up("the body is none");
        body_scanner_free(scanner);
        arena_format(map, ARENA_BYTES);
        if (arena_attach(&arena, map, arena_bytes(ARENA_BYTES)) || arena_alloc(&arena, n_body, &ref, &to) ||
                        arena_view_init(&view, map, arena_bytes(ARENA_BYTES)))
                give_up("no arena");
        memcpy(to, body, n_body);
        record = (struct record){.has = HAS(body_len) | HAS(body_off) | HAS(body_gen) | HAS(marks) |
                                        HAS(system) | HAS(documents),
                        .body_len = n_body,
                        .body_off = ref.off,
                        .body_gen = ref.gen,
                        .marks = {(const char *)&found->marks, sizeof(found->marks)},
                        .system = {"Be brief.", 9},
                        .documents = &list};
}

/* ---- what is measured ---- */

static double assembled(const struct prompt_budget *budget) {
        struct arena_ref ref = {.len = n_body, .off = record.body_off, .gen = record.body_gen};
        double from = now_ns();
        uint32_t n = 0;

        if (prompt_build(&prompt, &templates, &record, &view, budget))
                give_up("the prompt cannot be built");
        for (uint32_t i = 0; i < prompt.pieces.via.array.size; i++) {
                const msgpack_object *piece = &prompt.pieces.via.array.ptr[i];
                const msgpack_object *span = piece->via.array.ptr;

                if (piece->type == MSGPACK_OBJECT_BIN) {
                        memcpy(out + n, piece->via.bin.ptr, piece->via.bin.size);
                        n += piece->via.bin.size;
                        continue;
                }
                if (arena_copy(&view, &ref, (uint32_t)span[0].via.u64, (uint32_t)span[1].via.u64, out + n))
                        give_up("the body is gone");
                n += (uint32_t)span[1].via.u64;
        }
        return now_ns() - from;
}

static double copied_and_scanned(void) {
        double from = now_ns();
        struct json_walk walk;
        struct json_text key, value;

        memcpy(out, body, n_body);
        walk = json_walk_in(json_inside((struct json_text){out, n_body}));
        while (json_walk_member(&walk, &key, &value) == 0)
                ;
        return now_ns() - from;
}

static void measure(const struct prompt_budget *budget) {
        double ours[ROUNDS], theirs[ROUNDS];

        for (int i = 0; i < ROUNDS; i++) {
                ours[i] = assembled(budget);
                theirs[i] = copied_and_scanned();
        }
        qsort(ours, ROUNDS, sizeof(double), by_size);
        qsort(theirs, ROUNDS, sizeof(double), by_size);
        printf("%.0f %.0f\n", ours[ROUNDS / 2], theirs[ROUNDS / 2]);
}

int main(void) {
        struct prompt_budget budget = {.context_tokens = 1000000, .max_output_tokens = 1000, .document_tokens = 2000};
        struct body_found *found = calloc(1, sizeof(*found));
        struct settings *settings;

        if (!found || settings_default(&settings) || prompt_init(&prompt, pages) ||
                        templates_init(&templates, settings))
                give_up("no memory");
        body_make();
        documents_make();
        record_make(found);
        measure(&budget);
        budget.enforce = true;
        measure(&budget);
        return 0;
}
