/*
 * fuzz_documents -- the readers of rows, metadata, Markdown and HTML, and behind them the cutting
 * into chunks and the parts of names.
 *
 * The first byte, a digit, picks the reader; what follows is the document.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/index/chunk.h"
#include "stages/engines/index/documents.h"
#include "stages/engines/index/front.h"
#include "stages/engines/index/identifier.h"
#include "stages/engines/index/jsonl.h"
#include "stages/engines/index/markup.h"
#include "stages/engines/index/metadata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void split(struct index_str text, const struct chunk_mark *marks, size_t n_marks) {
        struct chunk_list list;
        uint64_t last = 0;

        if (chunk_split(text, marks, n_marks, &list) != 0)
                return;
        for (size_t i = 0; i < list.n_chunks; i++) {
                const struct chunk *chunk = &list.chunks[i];

                assert(chunk->start <= chunk->end && chunk->end <= text.n_bytes);
                assert(i == 0 || chunk->end > last);
                assert(documents_utf8_end(text) < text.n_bytes || chunk->start == text.n_bytes ||
                                ((unsigned char)text.data[chunk->start] & 0xc0) != 0x80);
                last = chunk->end;
        }
        chunk_list_clear(&list);
}

static int look_at_part(struct index_str part, void *ctx) {
        const struct index_str *text = ctx;

        assert(part.n_bytes > 1 && part.data >= text->data &&
                        part.data + part.n_bytes <= text->data + text->n_bytes);
        return 0;
}

static int count_pair(struct index_str key, struct index_str value, void *ctx) {
        unsigned *n = ctx;

        assert(key.data && value.data && ++*n <= METADATA_MAX);
        return 0;
}

static void read_metadata(struct index_str bytes) {
        unsigned n = 0;

        metadata_each(bytes, count_pair, &n);
}

static void read_row(struct index_str bytes) {
        struct jsonl_row row = {0};
        struct index_error why = {0};

        if (jsonl_row_read(&row, bytes, &why) == 0) {
                const struct index_str text = jsonl_row_string(&row, JSONL_TEXT);

                assert(documents_utf8_end(text) == text.n_bytes);
                assert(row.metadata.n_bytes == 0 ||
                                (row.metadata.data[0] == '{' &&
                                                row.metadata.data[row.metadata.n_bytes - 1] ==
                                                                '}'));
                read_metadata(row.metadata);
                split(text, NULL, 0);
        }
        jsonl_row_clear(&row);
}

/* What it says is metadata, and other metadata can be joined with it. */
static void read_front(struct index_str yaml) {
        static const struct index_pair pairs[] = {
                        {{"title", 5}, {"t", 1}}, {{"k", 1}, {"1", 1}}, {{"k", 1}, {"2", 1}}};
        struct buffer metadata = {0}, title = {0}, joined = {0};

        if (front_read(yaml, &metadata, &title) == 0 && metadata.n_bytes > 0) {
                assert(metadata.data[0] == '{' && metadata.data[metadata.n_bytes - 1] == '}');
                assert(documents_utf8_end((struct index_str){metadata.data, metadata.n_bytes}) ==
                                metadata.n_bytes);
                read_metadata((struct index_str){metadata.data, metadata.n_bytes});
        }
        if (metadata_join((struct index_str){metadata.data ? metadata.data : "", metadata.n_bytes},
                            pairs, 3, &joined) == 0)
                read_metadata((struct index_str){joined.data, joined.n_bytes});
        buffer_clear(&metadata);
        buffer_clear(&title);
        buffer_clear(&joined);
}

static void read_markup(struct index_str bytes, uint8_t kind) {
        struct markup markup = {0};
        int r = kind == 1 ? markdown_read(bytes, &markup)
                          : html_read(bytes, kind == 2 ? "UTF-8" : NULL, &markup);

        if (r != 0)
                return;
        for (size_t i = 0; i < markup.n_marks; i++)
                assert(markup.marks[i].offset <= markup.text.n_bytes);
        split(markup.text, markup.marks, markup.n_marks);
        if (markup.front.n_bytes > 0)
                read_front(markup.front);
        markup_clear(&markup);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *copy;

        if (size < 1)
                return 0;
        copy = malloc(size > 1 ? size - 1 : 1); /* its own, so that a read behind its end is seen */
        if (!copy)
                return 0;
        memcpy(copy, data + 1, size - 1);
        const struct index_str bytes = {copy, size - 1};
        const uint8_t kind = (uint8_t)(data[0] - '0') % 6;
        switch (kind) {
        case 0:
                read_row(bytes);
                break;
        case 4:
                split(bytes, NULL, 0);
                identifier_parts(bytes, look_at_part, (void *)&bytes);
                break;
        case 5:
                read_metadata(bytes);
                break;
        default:
                read_markup(bytes, kind);
        }
        free(copy);
        return 0;
}
