/*
 * splice -- edits of byte spans in a client's body, everything else byte for byte as it came.
 *
 * Shape   the prompt as pieces (spans of the body, or literal bytes) and a sorted list of edits in,
 * runs of bytes out Units   byte offsets into the body Owner   all memory is the caller's Errors 0,
 * -EPROTO (a piece or an edit is not where it should be), what the receiver says Limits  edits do
 * not overlap; an edit lies within one span of the body
 */
#pragma once

#include <stdint.h>

struct splice_piece {
        const char *literal; /* NULL: bytes [off, off + len) of the body */
        uint32_t off, len;
};

/* Bytes [off, off + len) of the body become text; len 0 inserts before off. */
struct splice_edit {
        uint32_t off, len;
        const char *text;
        uint32_t n;
};

typedef int (*splice_out)(void *ctx, const struct splice_piece *run);

/* Pieces come in the order in which they are sent; edits sorted by off. Each edit is applied in the
 * span that holds it; one that no span holds is -EPROTO. */
int splice(const struct splice_piece *pieces, uint32_t n_pieces, const struct splice_edit *edits,
                uint32_t n_edits, uint32_t body_len, splice_out out, void *ctx);
/* Sorts a few edits by where they apply. */
void splice_sort(struct splice_edit *edits, uint32_t n);
