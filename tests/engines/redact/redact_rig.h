/*
 * redact_rig -- texts through the engine, in pieces of any size.
 */
#pragma once

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/redact/redact.h"

#define RIG_BYTES 262144u

struct rig_out {
        char text[RIG_BYTES];
        uint32_t n, n_finds, n_blocked;
        uint64_t covered; /* bytes of the input in pieces so far */
};

static inline void rig_put(void *ctx, const struct redact_piece *piece) {
        struct rig_out *out = ctx;

        ck_assert_uint_eq(piece->start, out->covered);
        ck_assert_uint_le(out->n + piece->n, RIG_BYTES);
        memcpy(out->text + out->n, piece->text, piece->n);
        out->n += piece->n;
        out->covered = piece->end;
        out->n_finds += piece->entity != REDACT_PLAIN;
        out->n_blocked += piece->blocked;
}

static inline struct redact *rig_rules(const struct redact_options *options) {
        struct redact_why why = {""};
        struct redact *r = NULL;
        int e = redact_new(options, &r, &why);

        ck_assert_msg(e == 0, "%s", why.text);
        return r;
}

/* All built-in entities; the rest of the options, min_score at least, is the caller's. */
#define RIG_ALL(...)                                                                               \
        rig_rules(&(struct redact_options){                                                        \
                        .entities = (const char *const[]){"all"}, .n_entities = 1, __VA_ARGS__})

static inline void rig_feed(struct redact *r, struct redact_stream *stream, const char *text,
                size_t n, bool last, struct rig_out *out, struct redact_numbers *numbers) {
        redact_feed(r, stream, text, n, last, &(struct redact_sink){rig_put, out, numbers});
}

/* The whole at once, as a C string in out->text. */
static inline void rig_whole(struct redact *r, const char *text, size_t n, struct rig_out *out) {
        static struct redact_stream stream;
        struct redact_numbers numbers = {0};

        out->n = out->n_finds = out->n_blocked = 0;
        out->covered = 0;
        rig_feed(r, &stream, text, n, true, out, &numbers);
        ck_assert_uint_lt(out->n, RIG_BYTES);
        out->text[out->n] = 0;
}

/* A row of rows.h taken apart: the text itself, and the text with <ENTITY> for what is marked. */
static inline void rig_row(const char *row, char *text, char *redacted) {
        while (*row) {
                const char *bar = strchr(row, '|'), *end = strstr(row, "]]");
                if (row[0] == '[' && row[1] == '[' && row[2] != '[' && bar && end) {
                        redacted += sprintf(redacted, "<%.*s>", (int)(bar - row - 2), row + 2);
                        text += sprintf(text, "%.*s", (int)(end - bar - 1), bar + 1);
                        row = end + 2;
                } else {
                        *text++ = *redacted++ = *row++;
                }
        }
        *text = *redacted = 0;
}
