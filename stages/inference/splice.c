#include "stages/inference/splice.h"

#include <errno.h>

void splice_sort(struct splice_edit *edits, uint32_t n) {
        for (uint32_t i = 1; i < n; i++)
                for (uint32_t k = i; k > 0 && edits[k - 1].off > edits[k].off; k--) {
                        struct splice_edit held = edits[k];
                        edits[k] = edits[k - 1];
                        edits[k - 1] = held;
                }
}

static int put_span(uint32_t from, uint32_t to, splice_out out, void *ctx) {
        return from < to ? out(ctx, &(struct splice_piece){.off = from, .len = to - from}) : 0;
}

/* One span of the body, with the edits that lie in it. */
static int put_edited(const struct splice_piece *piece, const struct splice_edit *edits,
                uint32_t n_edits, uint32_t *applied, splice_out out, void *ctx) {
        uint32_t at = piece->off, end = piece->off + piece->len;
        int r = 0;

        for (uint32_t i = 0; i < n_edits && r == 0; i++) {
                const struct splice_edit *e = &edits[i];
                if (e->off < at || e->off >= end || e->len > end - e->off)
                        continue;
                r = put_span(at, e->off, out, ctx);
                if (r == 0 && e->n)
                        r = out(ctx, &(struct splice_piece){.literal = e->text, .len = e->n});
                at = e->off + e->len;
                (*applied)++;
        }
        return r ? r : put_span(at, end, out, ctx);
}

int splice(const struct splice_piece *pieces, uint32_t n_pieces, const struct splice_edit *edits,
                uint32_t n_edits, uint32_t body_len, splice_out out, void *ctx) {
        uint32_t applied = 0;
        int r = 0;

        for (uint32_t i = 0; i < n_pieces && r == 0; i++) {
                if (pieces[i].literal)
                        r = pieces[i].len ? out(ctx, &pieces[i]) : 0;
                else if (pieces[i].off > body_len || pieces[i].len > body_len - pieces[i].off)
                        r = -EPROTO;
                else
                        r = put_edited(&pieces[i], edits, n_edits, &applied, out, ctx);
        }
        if (r)
                return r;
        return applied == n_edits ? 0 : -EPROTO;
}
