/*
 * jsonl -- one row of a JSON Lines file, as a document or as a query.
 *
 * Shape   {"id", "title", "text", "url", "metadata"}; others are ignored, null is absent, of a key
 *         given twice the last counts
 * Units   bytes; strings are decoded, so a document's offsets are those of the value, not the file
 * Owner   a row is used again for the next one; metadata points into the line
 * Errors  0, -ENOMEM, or -EBADMSG with the reason in why
 * Limits  JSONL_DEPTH_MAX
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "stages/engines/index/buffer.h"
#include "stages/engines/index/index.h"

#define JSONL_DEPTH_MAX 64u

enum jsonl_field { JSONL_ID, JSONL_TITLE, JSONL_TEXT, JSONL_URL, JSONL_STRINGS_N };

struct jsonl_row {
        struct buffer strings[JSONL_STRINGS_N];
        bool has[JSONL_STRINGS_N];
        bool id_is_number; /* the id is then its digits */
        struct index_str metadata;
};

int jsonl_row_read(struct jsonl_row *row, struct index_str line, struct index_error *why);
struct index_str jsonl_row_string(const struct jsonl_row *row, enum jsonl_field field);
void jsonl_row_clear(struct jsonl_row *row);
