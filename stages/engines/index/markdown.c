/*
 * markdown -- headings, paragraphs, list items and code blocks of a Markdown text, by md4c.
 *
 * md4c hands out pointers into its input, and other ones for what it makes up itself (a space for a
 * line break): the first of the first kind in a block says where the block lies.
 */
#include "stages/engines/index/markup.h"

#include <stdbool.h>
#include <stdint.h>

#include <md4c.h>

struct reading {
        struct markup *markup;
        const char *base;  /* of the whole text */
        const char *input; /* what md4c sees of it */
        size_t n_input;
        bool pending; /* a block has begun and shown no text yet */
        enum chunk_mark_kind kind;
        unsigned level;
        bool fenced;
        bool in_heading;
        size_t title_from;
};

static int enter_block(MD_BLOCKTYPE type, void *detail, void *ctx) {
        struct reading *reading = ctx;

        switch (type) {
        case MD_BLOCK_H:
                reading->kind = CHUNK_MARK_HEADING;
                reading->level = ((const MD_BLOCK_H_DETAIL *)detail)->level;
                reading->in_heading = true;
                reading->title_from = reading->markup->titles.n_bytes;
                break;
        case MD_BLOCK_CODE:
                reading->kind = CHUNK_MARK_CODE;
                reading->fenced = ((const MD_BLOCK_CODE_DETAIL *)detail)->fence_char != 0;
                break;
        case MD_BLOCK_QUOTE:
        case MD_BLOCK_LI:
        case MD_BLOCK_HTML:
        case MD_BLOCK_P:
        case MD_BLOCK_TR:
                reading->kind = CHUNK_MARK_BLOCK;
                break;
        case MD_BLOCK_DOC:
        case MD_BLOCK_UL:
        case MD_BLOCK_OL:
        case MD_BLOCK_HR:
        case MD_BLOCK_TABLE:
        case MD_BLOCK_THEAD:
        case MD_BLOCK_TBODY:
        case MD_BLOCK_TH:
        case MD_BLOCK_TD:
                return 0;
        }
        reading->pending = true;
        return 0;
}

static int leave_block(MD_BLOCKTYPE type, void *detail, void *ctx) {
        struct reading *reading = ctx;

        (void)detail;
        reading->pending = false;
        if (type == MD_BLOCK_H) {
                markup_title(reading->markup, reading->title_from);
                reading->in_heading = false;
        }
        return 0;
}

static int ignore_span(MD_SPANTYPE type, void *detail, void *ctx) {
        (void)type;
        (void)detail;
        (void)ctx;
        return 0;
}

static size_t line_start(const char *base, size_t at) {
        const char *found = at > 0 ? memrchr(base, '\n', at) : NULL;

        return found ? (size_t)(found - base) + 1 : 0;
}

static int place_mark(struct reading *reading, const char *text) {
        const uintptr_t at = (uintptr_t)text;
        const uintptr_t input = (uintptr_t)reading->input;

        if (at < input || at >= input + reading->n_input)
                return 0;
        size_t offset = line_start(reading->base, (size_t)(text - reading->base));
        if (reading->kind == CHUNK_MARK_CODE && reading->fenced && offset > 0)
                offset = line_start(reading->base, offset - 1);
        reading->pending = false;
        return markup_mark(reading->markup, offset, reading->kind, reading->level);
}

static int on_text(MD_TEXTTYPE type, const MD_CHAR *text, MD_SIZE size, void *ctx) {
        struct reading *reading = ctx;
        int r = reading->pending ? place_mark(reading, text) : 0;

        if (r < 0 || !reading->in_heading)
                return r;
        if (type == MD_TEXT_BR || type == MD_TEXT_SOFTBR)
                return buffer_append(&reading->markup->titles, " ", 1);
        return buffer_append(&reading->markup->titles, text, size);
}

/* Length of the YAML block at the very start, which md4c would take for a heading. */
static size_t front_matter(struct index_str bytes) {
        const char *at = bytes.data;
        const char *end = bytes.data + bytes.n_bytes;

        if (bytes.n_bytes < 4 || memcmp(at, "---\n", 4) != 0)
                return 0;
        for (at += 3; at && end - at >= 4; at = memchr(at + 1, '\n', (size_t)(end - at - 1))) {
                if (memcmp(at, "\n---", 4) == 0 && (end - at == 4 || at[4] == '\n'))
                        return (size_t)(at - bytes.data) + (end - at == 4 ? 4 : 5);
        }
        return 0;
}

static struct index_str between_dashes(struct index_str bytes, size_t end) {
        const size_t last = bytes.data[end - 1] == '\n' ? 4 : 3; /* the line that ends it */

        return (struct index_str){bytes.data + 4, end - 4 - last};
}

int markdown_read(struct index_str bytes, struct markup *ret_markup) {
        const MD_PARSER parser = {
                        .flags = MD_FLAG_TABLES | MD_FLAG_STRIKETHROUGH | MD_FLAG_TASKLISTS,
                        .enter_block = enter_block,
                        .leave_block = leave_block,
                        .enter_span = ignore_span,
                        .leave_span = ignore_span,
                        .text = on_text,
        };
        struct markup markup = {.text = bytes};
        const size_t skip = front_matter(bytes);
        struct reading reading = {
                        .markup = &markup,
                        .base = bytes.data,
                        .input = bytes.data + skip,
                        .n_input = bytes.n_bytes - skip,
        };
        int r = bytes.n_bytes > UINT32_MAX ? -EBADMSG
                                           : md_parse(reading.input, (MD_SIZE)reading.n_input,
                                                             &parser, &reading);

        if (r != 0) {
                markup_clear(&markup);
                return r == -1 ? -ENOMEM : r; /* -1 is what md4c itself says */
        }
        if (skip > 0)
                markup.front = between_dashes(bytes, skip);
        markup_settle(&markup);
        *ret_markup = markup;
        return 0;
}
