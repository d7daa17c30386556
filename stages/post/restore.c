#include "stages/post/restore.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool restore_add(struct restore *r, struct mr_view entity, uint64_t number, struct mr_view value) {
        struct restore_row *row = &r->rows[r->n];

        if (r->n == REDACT_NUMBERS || entity.n > REDACT_NAME_MAX || number > UINT32_MAX)
                return false;
        row->n = (uint8_t)snprintf(row->name, sizeof(row->name), "<%.*s_%" PRIu64 ">",
                        (int)entity.n, entity.p, number);
        row->value = value;
        r->n++;
        return true;
}

/* The row that begins so; NULL: none does. */
static const struct restore_row *begun(const struct restore *r, const struct restore_token *token) {
        for (uint32_t i = 0; i < r->n; i++)
                if (token->n <= r->rows[i].n && !memcmp(token->bytes, r->rows[i].name, token->n))
                        return &r->rows[i];
        return NULL;
}

void restore_flush(struct restore_token *token, const struct restore_out *out) {
        if (token->n)
                out->put(out->ctx, token->bytes, token->n);
        token->n = 0;
}

/* One byte that may be part of a placeholder: the first one is `<`. */
static void step(const struct restore *r, struct restore_token *token, char c,
                const struct restore_out *out) {
        const struct restore_row *row;

        if (c == '<')
                restore_flush(token, out);
        token->bytes[token->n++] = c;
        row = begun(r, token);
        if (!row) {
                restore_flush(token, out);
        } else if (row->n == token->n) {
                token->n = 0;
                out->put(out->ctx, row->value.p, row->value.n);
        }
}

void restore_feed(const struct restore *r, struct restore_token *token, const char *text, uint32_t n,
                const struct restore_out *out) {
        while (n > 0) {
                const char *open = token->n ? text : memchr(text, '<', n);
                uint32_t run = open ? (uint32_t)(open - text) : n;

                if (run)
                        out->put(out->ctx, text, run);
                text += run;
                n -= run;
                if (!n)
                        return;
                step(r, token, *text++, out);
                n--;
        }
}
