/*
 * html -- the text of an HTML page, by libxml2's forgiving parser, without building a tree.
 */
#include "stages/engines/index/markup.h"

#include <stdbool.h>
#include <strings.h>

#include <libxml/HTMLparser.h>

#define FEED_BYTES (1 << 20)

enum breaks { BREAK_NONE, BREAK_SPACE, BREAK_LINE, BREAK_PARAGRAPH };

struct page {
        struct markup *markup;
        const char *skipped; /* the element whose content nobody reads; NULL: none */
        enum breaks owed;    /* what goes before the next word */
        bool pending;        /* a block has begun and shown no text yet */
        bool pre;
        enum chunk_mark_kind kind;
        unsigned level; /* of the heading we are in, or 0 */
        size_t title_from;
        bool in_title;
        struct buffer title;
        int error;
};

static bool is_one_of(const char *name, const char *const *names, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (strcasecmp(names[i], name) == 0)
                        return true;
        return false;
}

static const char *skipped_name(const char *name) {
        static const char *const names[] = {"script", "style", "noscript", "template", "svg",
                        "math", "iframe", "select"};

        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
                if (strcasecmp(names[i], name) == 0)
                        return names[i];
        return NULL;
}

static enum breaks breaks_of(const char *name) {
        static const char *const lines[] = {"br", "dd", "dt", "li", "option", "tr"};
        static const char *const paragraphs[] = {"address", "article", "aside", "blockquote",
                        "body", "caption", "center", "details", "div", "dl", "fieldset",
                        "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5",
                        "h6", "header", "hr", "main", "nav", "ol", "p", "pre", "section", "summary",
                        "table", "tbody", "tfoot", "thead", "ul"};

        if (is_one_of(name, lines, sizeof(lines) / sizeof(*lines)))
                return BREAK_LINE;
        if (is_one_of(name, paragraphs, sizeof(paragraphs) / sizeof(*paragraphs)))
                return BREAK_PARAGRAPH;
        return strcasecmp(name, "td") == 0 || strcasecmp(name, "th") == 0 ? BREAK_SPACE
                                                                          : BREAK_NONE;
}

static unsigned heading_level(const char *name) {
        if ((name[0] == 'h' || name[0] == 'H') && name[1] >= '1' && name[1] <= '6' &&
                        name[2] == '\0')
                return (unsigned)(name[1] - '0');
        return 0;
}

static void owe(struct page *page, enum breaks breaks) {
        if (breaks > page->owed)
                page->owed = breaks;
}

static void on_start(void *ctx, const xmlChar *xml_name, const xmlChar **attributes) {
        struct page *page = ctx;
        const char *name = (const char *)xml_name;
        const enum breaks breaks = breaks_of(name);
        const unsigned level = heading_level(name);

        (void)attributes;
        if (page->skipped || page->error)
                return;
        page->skipped = skipped_name(name);
        owe(page, breaks);
        if (strcasecmp(name, "title") == 0)
                page->in_title = true;
        if (strcasecmp(name, "pre") == 0)
                page->pre = true;
        if (level > 0) {
                page->level = level;
                page->title_from = page->markup->titles.n_bytes;
        }
        if (breaks >= BREAK_LINE) {
                page->pending = true;
                page->kind = page->level > 0 ? CHUNK_MARK_HEADING
                             : page->pre     ? CHUNK_MARK_CODE
                                             : CHUNK_MARK_BLOCK;
        }
}

static void on_end(void *ctx, const xmlChar *xml_name) {
        struct page *page = ctx;
        const char *name = (const char *)xml_name;

        if (page->skipped) {
                if (strcasecmp(page->skipped, name) == 0)
                        page->skipped = NULL;
                return;
        }
        owe(page, breaks_of(name));
        if (strcasecmp(name, "title") == 0)
                page->in_title = false;
        if (strcasecmp(name, "pre") == 0)
                page->pre = false;
        if (heading_level(name) > 0 && page->level > 0) {
                markup_title(page->markup, page->title_from);
                page->level = 0;
        }
        if (breaks_of(name) >= BREAK_LINE) {
                page->pending = true;
                page->kind = CHUNK_MARK_BLOCK;
        }
}

static int put(struct page *page, const char *data, size_t n) {
        static const char *const breaks[] = {[BREAK_NONE] = "",
                        [BREAK_SPACE] = " ",
                        [BREAK_LINE] = "\n",
                        [BREAK_PARAGRAPH] = "\n\n"};
        struct markup *markup = page->markup;
        const bool space = page->owed == BREAK_SPACE;
        int r = 0;

        if (markup->own.n_bytes > 0)
                r = buffer_append(&markup->own, breaks[page->owed], strlen(breaks[page->owed]));
        if (r == 0 && page->pending)
                r = markup_mark(markup, markup->own.n_bytes, page->kind, page->level);
        if (r == 0 && page->level > 0 && space && markup->titles.n_bytes > page->title_from)
                r = buffer_append(&markup->titles, " ", 1);
        if (r == 0 && page->level > 0)
                r = buffer_append(&markup->titles, data, n);
        page->owed = BREAK_NONE;
        page->pending = false;
        return r < 0 ? r : buffer_append(&markup->own, data, n);
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static int put_title(struct page *page, const char *data, size_t n) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++) {
                const bool after_blank = page->title.n_bytes == 0 ||
                                         page->title.data[page->title.n_bytes - 1] == ' ';

                if (!is_blank(data[i]))
                        r = buffer_append(&page->title, data + i, 1);
                else if (!after_blank)
                        r = buffer_append(&page->title, " ", 1);
        }
        return r;
}

static void on_characters(void *ctx, const xmlChar *xml_text, int n) {
        struct page *page = ctx;
        const char *text = (const char *)xml_text;
        const char *end = text + n;

        if (page->skipped || page->error || n <= 0)
                return;
        if (page->in_title) {
                page->error = put_title(page, text, (size_t)n);
                return;
        }
        if (page->pre) {
                page->error = put(page, text, (size_t)n);
                return;
        }
        while (text < end && page->error == 0) {
                const char *word = text;

                while (text < end && !is_blank(*text))
                        text++;
                if (text > word)
                        page->error = put(page, word, (size_t)(text - word));
                while (text < end && is_blank(*text)) {
                        text++;
                        owe(page, BREAK_SPACE);
                }
        }
}

static int parse(struct page *page, struct index_str bytes, const char *encoding) {
        htmlSAXHandler sax = {
                        .startElement = on_start,
                        .endElement = on_end,
                        .characters = on_characters,
                        .cdataBlock = on_characters,
                        .ignorableWhitespace = on_characters,
        };
        const xmlCharEncoding known =
                        encoding ? xmlParseCharEncoding(encoding) : XML_CHAR_ENCODING_NONE;
        htmlParserCtxtPtr parser = htmlCreatePushParserCtxt(&sax, page, NULL, 0, NULL, known);

        if (!parser)
                return -ENOMEM;
        htmlCtxtUseOptions(parser, HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                                                   HTML_PARSE_NONET |
                                                   (encoding ? HTML_PARSE_IGNORE_ENC : 0));
        for (size_t at = 0; at < bytes.n_bytes && page->error == 0; at += FEED_BYTES) {
                const size_t left = bytes.n_bytes - at;

                htmlParseChunk(parser, bytes.data + at, left < FEED_BYTES ? (int)left : FEED_BYTES,
                                0);
        }
        htmlParseChunk(parser, NULL, 0, 1);
        htmlFreeParserCtxt(parser);
        return page->error;
}

/* The page's <title> goes behind the headings' ones, where settling does not look. */
static int take_title(struct page *page) {
        struct markup *markup = page->markup;
        size_t n = page->title.n_bytes;
        const size_t from = markup->titles.n_bytes;

        while (n > 0 && page->title.data[n - 1] == ' ')
                n--;
        int r = buffer_append(&markup->titles, page->title.data, n);
        if (r == 0 && n > 0)
                markup->title = (struct index_str){markup->titles.data + from, n};
        return r;
}

int html_read(struct index_str bytes, const char *encoding, struct markup *ret_markup) {
        struct markup markup = {0};
        struct page page = {.markup = &markup};
        int r = parse(&page, bytes, encoding);

        if (r == 0)
                r = take_title(&page);
        buffer_clear(&page.title);
        if (r < 0) {
                markup_clear(&markup);
                return r;
        }
        markup_settle(&markup);
        markup.text = (struct index_str){
                        markup.own.data ? markup.own.data : "", markup.own.n_bytes};
        *ret_markup = markup;
        return 0;
}
