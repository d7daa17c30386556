/*
 * markdown -- a text without its Markdown, while it is still arriving.
 *
 * Shape   struct markdown: where the text stands and what of it is not decided, a plain value; zeroed, it is
 *         the start of a text
 * Units   bytes
 * Owner   the caller's
 * Errors  none: what is no Markdown goes on as it is
 * Limits  MARKDOWN_HELD bytes wait at most: a link or a line's marker that is longer is none
 *
 * Read byte by byte, so how the text was cut makes no difference. Taken away: emphasis, marks of code, the lines
 * around a block of code, marks of headings and quotes, lines that only rule or underline; a link leaves its
 * text, an image its description, an item of a list a hyphen. By the rules of CommonMark, but for what needs more
 * than the text around a mark: one that is never closed is taken away too, and within a word (2*3, snake_case)
 * only a doubled asterisk is a mark.
 */
#pragma once

#include <stdint.h>

#define MARKDOWN_HELD 1024u

enum markdown_at {
        MARKDOWN_LINE,  /* at a line's start: held is what may be its marker */
        MARKDOWN_TEXT,
        MARKDOWN_RUN,    /* held: marks of one kind, until what follows them is known */
        MARKDOWN_ESCAPE, /* held: a backslash */
        MARKDOWN_BANG,   /* held: what may begin an image */
        MARKDOWN_LABEL,  /* held: a bracket and what follows it */
        MARKDOWN_AFTER,  /* held: a bracket, a label and the bracket behind it */
        MARKDOWN_URL,    /* held: all of a link so far */
        MARKDOWN_BLOCK_LINE, /* in a block of code, at a line's start: held may be the mark of its end */
        MARKDOWN_BLOCK       /* in a line of it */
};

struct markdown {
        uint8_t at;      /* enum markdown_at */
        uint8_t before;  /* what the last byte was: enum side of markdown.c */
        uint8_t code;    /* marks that the code within the line is between; 0: none is open */
        uint8_t fence;   /* what the open block of code is between: ` or ~ */
        uint8_t n_fence; /* how many of them */
        uint8_t parens;  /* open in a link's address */
        uint16_t label;  /* bytes of held that are a link's bracket and label */
        uint16_t n;
        char held[MARKDOWN_HELD];
};

/* Writes what may go on to `to`, which holds n + MARKDOWN_HELD bytes. Returns the bytes written. */
uint32_t markdown_feed(struct markdown *m, const char *text, uint32_t n, char *to);
/* The text ends: what waits is decided. `to` holds MARKDOWN_HELD bytes. */
uint32_t markdown_flush(struct markdown *m, char *to);
