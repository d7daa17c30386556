/*
 * prompt_own -- what the files that make a prompt share.
 *
 * Shape   the request's parts, and the steps that more than one of them takes
 * Units   bytes of the body
 * Owner   as in prompt.h
 * Errors  0, PROMPT_E_*
 * Limits  as in prompt.h
 */
#pragma once

#include "stages/assemble/few_shot.h"
#include "stages/assemble/prompt.h"
#include "stages/engines/json/json.h"

/* Columns of a row of record.documents. */
enum prompt_column {
        DOCUMENT_ID,
        DOCUMENT_TITLE,
        DOCUMENT_URL,
        DOCUMENT_START,
        DOCUMENT_END,
        DOCUMENT_SCORE,
        DOCUMENT_TEXT,
        DOCUMENT_COLUMNS, /* that there must be */
        DOCUMENT_PATH = DOCUMENT_COLUMNS
};

struct prompt_source {
        const struct record *record;
        const struct body_marks *marks;
        const struct arena_view *arena; /* NULL: the body is in the record, or not mapped */
        /* What a template has to place: */
        struct history_slice history; /* as far as there is room */
        struct few_shot_choice examples;
};

static inline bool prompt_is_document(const msgpack_object *row) {
        return row->type == MSGPACK_OBJECT_ARRAY && row->via.array.size >= DOCUMENT_COLUMNS;
}

/* Empty where the column holds no text. */
struct mr_view prompt_column(const msgpack_object *row, enum prompt_column column);
/* Where, from `from` on, a document's text holds what could be taken for the end of a document or for
 * the number of one: *ret_instead stands for that one byte. n: nowhere. */
uint32_t prompt_delimiter(const char *text, uint32_t n, uint32_t from, const char **ret_instead);
static inline struct arena_ref prompt_body_ref(const struct record *record) {
        return (struct arena_ref){.slot = (uint32_t)record->gateway,
                        .len = (uint32_t)record->body_len,
                        .off = record->body_off,
                        .gen = record->body_gen};
}

int prompt_body_copy(const struct record *record, const struct arena_view *arena, uint32_t at,
                uint32_t n, char *to);
/* Room for so many bytes of the body in prompt->content. */
int prompt_content_room(struct prompt *prompt, uint32_t n);
/* In the order of their places; of the same place, as they are put. At most PROMPT_EDITS. */
void prompt_edit_put(struct prompt *prompt, struct prompt_edit edit);
