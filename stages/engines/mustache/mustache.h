/*
 * mustache -- templates: compiled once, rendered often.
 *
 * Shape   text -> struct mustache, a flat program; program + data -> text
 * Units   bytes; places are lines and columns of the file, from 1
 * Owner   a program owns a copy of its text and is read-only from then on; the output belongs to the
 *         caller and is used again
 * Errors  0, -ENOMEM, MUSTACHE_E_*, with the place and the reason in struct mustache_error
 * Limits  MUSTACHE_NEST_MAX open tags in a template, MUSTACHE_DEPTH_MAX levels while rendering,
 *         MUSTACHE_INDENT_MAX bytes of indentation, and what struct mustache_options says; rendering
 *         allocates for the output only
 *
 * The published specification (github.com/mustache/spec): interpolation, sections, inverted sections,
 * comments, partials, delimiters, and of the optional parts inheritance and dynamic names; no lambdas.
 * Where it leaves room: empty text and the number 0 are false, like null, false and the empty list; a
 * list or a map is no text, to interpolate one is an error; a name holds no blanks; empty lines of a
 * partial are indented as well.
 */
#pragma once

#include "stages/engines/mustache/data.h"

#define MUSTACHE_NEST_MAX 128u
#define MUSTACHE_DEPTH_MAX 1024u
#define MUSTACHE_INDENT_MAX 4096u
#define MUSTACHE_MARKS_MAX 16u

enum mustache_code {
        MUSTACHE_E_SYNTAX = 1, /* the template is none */
        MUSTACHE_E_RENDER,     /* it cannot be rendered with these data */
        MUSTACHE_E_LIMIT,      /* it never ends, or its output is too long */
};

enum mustache_escape { MUSTACHE_ESCAPE_NONE, MUSTACHE_ESCAPE_HTML };

struct mustache;

/* name: for messages; from: where the template begins in its file, behind the front matter. */
int mustache_compile(const char *name, const char *file, size_t n, size_t from,
                struct mustache **ret, struct mustache_error *err);
struct mustache *mustache_free(struct mustache *t);
void mustache_freep(struct mustache **t);
const char *mustache_name(const struct mustache *t);
/* Does one of its tags ask for that name, or for a member of it? */
bool mustache_asks_for(const struct mustache *t, const char *name);

/* The template of that name: 0, with NULL in *ret when there is none, or what compiling it gave. */
typedef int (*mustache_find_fn)(void *ctx, struct mustache_text name, const struct mustache **ret,
                struct mustache_error *err);

/* The first partial or parent that is named in the text, and that `finds` does not find: false when there is
 * none. *ret_at: line, column and name of it. What is named by data is not looked at. */
bool mustache_lacks(const struct mustache *t, mustache_find_fn finds, void *find_ctx,
                struct mustache_error *ret_at);

/* Where the value whose text begins at `text` would stand in the output: it is left out there. */
struct mustache_marks {
        const char *text;
        size_t at[MUSTACHE_MARKS_MAX];
        uint32_t n;
};

struct mustache_options {
        enum mustache_escape escape;
        bool missing_is_error; /* a name that is in no context; else it is empty */
        mustache_find_fn find; /* NULL: there are no partials */
        void *find_ctx;
        struct mustache_marks *marks; /* NULL: none */
        size_t max_bytes;  /* of output */
        uint64_t max_work; /* tags, elements and members that are looked at */
};

/* Grows as needed; {0} before the first use, what stands in it is overwritten. */
struct mustache_output {
        char *p;
        size_t n, cap;
};

void mustache_output_clear(struct mustache_output *out);

int mustache_render(const struct mustache *t, const struct mustache_data *data,
                const struct mustache_options *options, struct mustache_output *out,
                struct mustache_error *err);
