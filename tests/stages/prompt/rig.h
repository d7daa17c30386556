/*
 * rig -- a record as the gateway and rag make it, and what becomes of its body.
 *
 * Shape   one prompt, one set of templates, for one test after the other
 * Owner   static
 */
#pragma once

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "stages/assemble/templates.h"

static struct prompt prompt;
static struct templates templates;
static const struct counters_shm *no_pages[PROCS_MAX];
static const struct prompt_budget wide = {8192, 1024, 2000, false};

static inline uint32_t at(const char *body, const char *what) {
        return (uint32_t)(strstr(body, what) - body);
}

/* A record over an inline body, with the marks that the gateway's scan makes. */
static inline struct record record_of(const char *body, struct body_marks *marks, const char *content) {
        struct record record = {.has = HAS(body) | HAS(body_len) | HAS(marks)};

        marks->messages.off = at(body, "[");
        marks->messages.len = (uint32_t)(strrchr(body, ']') - body) + 1 - marks->messages.off;
        marks->n_messages = marks->n_users = 1;
        marks->conversation = (struct body_span){marks->messages.off + 1, marks->messages.len - 2};
        marks->last_user = (struct body_span){at(body, content), (uint32_t)strlen(content)};
        marks->object_end = (uint32_t)strlen(body) - 1;
        record.body = (struct mr_view){body, (uint32_t)strlen(body)};
        record.body_len = record.body.n;
        record.marks = (struct mr_view){(const char *)marks, sizeof(*marks)};
        return record;
}

/* The pieces put together. */
static inline const char *whole(const struct record *record) {
        static char out[PROMPT_LITERAL_MAX * 2];
        size_t n = 0;

        for (uint32_t i = 0; i < prompt.pieces.via.array.size; i++) {
                const msgpack_object *piece = &prompt.pieces.via.array.ptr[i];
                const char *from;
                size_t len;
                if (piece->type == MSGPACK_OBJECT_ARRAY && piece->via.array.size == 3)
                        piece = &piece->via.array.ptr[2];
                if (piece->type == MSGPACK_OBJECT_BIN) {
                        from = piece->via.bin.ptr;
                        len = piece->via.bin.size;
                } else {
                        from = record->body.p + piece->via.array.ptr[0].via.u64;
                        len = piece->via.array.ptr[1].via.u64;
                }
                memcpy(out + n, from, len);
                n += len;
        }
        out[n] = 0;
        return out;
}

static inline msgpack_object cell_str(const char *text) {
        return (msgpack_object){
                        .type = MSGPACK_OBJECT_STR, .via.str = {(uint32_t)strlen(text), text}};
}

static msgpack_object cells[2][7], rows[2], list;

static inline void add_documents(struct record *record, const char *first, const char *second) {
        const char *texts[] = {first, second};

        for (uint32_t i = 0; i < 2; i++) {
                memset(cells[i], 0, sizeof(cells[i]));
                cells[i][0] = cell_str("doc.md");
                cells[i][1] = cell_str("A \"title\"");
                cells[i][2] = cell_str("");
                cells[i][6] = cell_str(texts[i]);
                rows[i] = (msgpack_object){
                                .type = MSGPACK_OBJECT_ARRAY, .via.array = {7, cells[i]}};
        }
        list = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY, .via.array = {2, rows}};
        record->has |= HAS(documents);
        record->documents = &list;
}
