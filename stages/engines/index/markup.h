/*
 * markup -- readers of what a document is written in: text, and where it may be cut.
 *
 * Shape   Markdown keeps its own bytes as the text, so that offsets hold in the file; of HTML the
 *         text is what a browser would show, paragraphs parted by an empty line
 * Units   bytes
 * Owner   a struct markup owns what it points to, but for the text of Markdown
 * Errors  0, -ENOMEM, or -EBADMSG when the parser gives up
 * Limits  input up to 4 GiB; any bytes are accepted
 */
#pragma once

#include <stddef.h>

#include "stages/engines/index/buffer.h"
#include "stages/engines/index/chunk.h"

struct markup {
        struct index_str text;
        struct index_str title; /* may be empty */
        struct index_str front; /* the YAML that it begins with; may be empty */
        struct chunk_mark *marks;
        size_t n_marks;
        size_t room;
        struct buffer own;    /* the text of HTML */
        struct buffer titles; /* the headings' texts, and the document's title */
};

int markdown_read(struct index_str bytes, struct markup *ret_markup);
/* encoding: NULL lets the document say, in a <meta>. */
int html_read(struct index_str bytes, const char *encoding, struct markup *ret_markup);
void markup_clear(struct markup *markup);

/* For the readers: marks come in order, one that does not go forward is dropped. */
int markup_mark(struct markup *markup, size_t offset, enum chunk_mark_kind kind, unsigned level);
/* A heading's title is what `titles` has got since n_bytes was `from`. */
void markup_title(struct markup *markup, size_t from);
/* Makes the titles point into `titles`, which does not move any more. */
void markup_settle(struct markup *markup);
