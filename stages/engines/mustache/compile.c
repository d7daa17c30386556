/*
 * compile -- a template's text becomes a program.
 *
 * The hard part of the specification is white space. A tag that is no variable and stands alone on
 * its line takes the line with it; what stood before a partial, parent or block then indents each line
 * of what comes in its place. A block's body loses the indentation of its first line where it is
 * written, and gets that of the place where it is put. That is decided here: operations say where lines
 * begin and by how much they are indented, rendering only adds it up.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/mustache/place.h"
#include "stages/engines/mustache/program.h"

#define NO_OP UINT32_MAX
#define OPS_FIRST 16u

/* A tag that waits for its end. */
struct frame {
        char kind;                 /* # ^ < $ */
        bool ignored;              /* it stands where only blocks count */
        struct mustache_text name; /* as it is written */
        uint32_t at;
        uint32_t op, lead; /* of a parent: what stood before it on its line; NO_OP */
        uint32_t strip;    /* blanks that each line of the body loses */
};

struct tag {
        char kind; /* # ^ / > ! = & < $, or 'v' for a variable */
        uint32_t from, to;
        uint32_t line; /* where the blanks before it begin, if `left` */
        uint32_t next; /* behind the line's end, if `right` */
        bool left;     /* only blanks before it on its line */
        bool right;    /* only blanks behind it */
        struct mustache_text name;
};

struct compiler {
        struct mustache *program;
        const char *text;
        uint32_t n, start; /* of the template in its file */
        uint32_t at;       /* what comes next */
        struct mustache_text open, close;
        struct frame frames[MUSTACHE_NEST_MAX];
        uint32_t n_frames;
        int error;
        struct mustache_error *err;
};

__attribute__((format(printf, 3, 4))) static void fail(
                struct compiler *c, uint32_t at, const char *format, ...) {
        va_list args;

        if (c->error)
                return;
        c->error = MUSTACHE_E_SYNTAX;
        mustache_place(c->text, c->n, at, c->err);
        va_start(args, format);
        vsnprintf(c->err->text, sizeof(c->err->text), format, args);
        va_end(args);
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

static bool is_space(char c) {
        return is_blank(c) || c == '\n' || c == '\r';
}

static bool begins_line(const struct compiler *c, uint32_t at) {
        return at == c->start || c->text[at - 1] == '\n';
}

static bool is_same(struct mustache_text a, struct mustache_text b) {
        return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

/* A name in a message, cut. */
#define NAME_SHOWN(name) (int)((name).n > 64 ? 64 : (name).n), (name).p

/* ---- operations ---- */

static uint32_t op_add(struct compiler *c, struct op op) {
        struct mustache *p = c->program;

        if (c->error)
                return NO_OP;
        if (p->n_ops == p->cap) {
                uint32_t cap = p->cap ? p->cap * 2 : OPS_FIRST;
                struct op *more = cap > p->cap ? realloc(p->ops, cap * sizeof(*more)) : NULL;
                if (!more) {
                        c->error = -ENOMEM;
                        return NO_OP;
                }
                p->ops = more;
                p->cap = cap;
        }
        op.end = p->n_ops + 1;
        p->ops[p->n_ops] = op;
        return p->n_ops++;
}

static const struct frame *innermost(const struct compiler *c) {
        return c->n_frames ? &c->frames[c->n_frames - 1] : NULL;
}

/* Directly within a parent only blocks count. */
static bool is_ignored(const struct compiler *c) {
        const struct frame *f = innermost(c);

        return f && (f->ignored || f->kind == '<');
}

static uint32_t strip_now(const struct compiler *c) {
        const struct frame *f = innermost(c);

        return f ? f->strip : 0;
}

/* The blanks from a line's start up to `to`, without those that the body loses. */
static struct mustache_text indent_of(const struct compiler *c, uint32_t line, uint32_t to) {
        uint32_t strip = strip_now(c);

        if (strip > to - line)
                strip = to - line;
        return (struct mustache_text){c->text + line + strip, to - line - strip};
}

/* Where the text of a line begins that loses the body's blanks. */
static uint32_t stripped(const struct compiler *c, uint32_t at, uint32_t to) {
        uint32_t most = strip_now(c);

        for (; most > 0 && at < to && is_blank(c->text[at]); most--)
                at++;
        return at;
}

static void text_add(struct compiler *c, uint32_t from, uint32_t to, bool line) {
        op_add(c, (struct op){.kind = OP_TEXT,
                                  .flags = line ? OP_LINE : 0,
                                  .at = from,
                                  .text = {c->text + from, to - from}});
}

/* Text as it stands; tag: one follows that leaves something of its line. */
static void add_text(struct compiler *c, uint32_t from, uint32_t to, bool tag) {
        bool line = begins_line(c, from);

        if (is_ignored(c))
                return;
        while (strip_now(c) && from < to) {
                const char *end = memchr(c->text + from, '\n', to - from);
                uint32_t next = end ? (uint32_t)(end - c->text) + 1 : to;

                if (line)
                        from = stripped(c, from, next);
                if (from < next) {
                        text_add(c, from, next, line);
                        line = end != NULL;
                }
                from = next;
        }
        if (from < to) {
                text_add(c, from, to, line);
                line = c->text[to - 1] == '\n';
        }
        if (line && tag)
                op_add(c, (struct op){.kind = OP_INDENT, .at = to});
}

/* ---- tags ---- */

static uint32_t find(const struct compiler *c, uint32_t from, struct mustache_text what, char first) {
        char needle[256];
        uint32_t n = 0;
        const char *at;

        if (first)
                needle[n++] = first;
        memcpy(needle + n, what.p, what.n);
        n += what.n;
        at = memmem(c->text + from, c->n - from, needle, n);
        return at ? (uint32_t)(at - c->text) : UINT32_MAX;
}

static struct mustache_text trimmed(const char *p, uint32_t n) {
        while (n && is_space(p[0]))
                p++, n--;
        while (n && is_space(p[n - 1]))
                n--;
        return (struct mustache_text){p, n};
}

/* What stands beside the tag on its line? */
static void look_around(const struct compiler *c, struct tag *tag) {
        uint32_t at = tag->from;

        while (at > c->start && is_blank(c->text[at - 1]))
                at--;
        tag->left = begins_line(c, at);
        tag->line = at;
        at = tag->to;
        while (at < c->n && is_blank(c->text[at]))
                at++;
        if (at + 1 < c->n && c->text[at] == '\r' && c->text[at + 1] == '\n')
                at++;
        tag->right = at == c->n || c->text[at] == '\n';
        tag->next = at < c->n ? at + 1 : at;
}

static void check_name(struct compiler *c, const struct tag *tag) {
        struct mustache_text name = tag->name;

        if (name.n && name.p[0] == '*') /* blanks may stand behind it */
                name = trimmed(name.p + 1, name.n - 1);
        if (!name.n)
                fail(c, tag->from, "a tag without a name");
        for (uint32_t i = 0; i < name.n; i++)
                if (is_space(name.p[i])) {
                        fail(c, tag->from, "'%.*s': a name holds no blanks", NAME_SHOWN(tag->name));
                        return;
                }
}

/* False: there is no further tag, or it is broken. */
static bool next_tag(struct compiler *c, struct tag *tag) {
        uint32_t at = find(c, c->at, c->open, 0), end;
        char closing = 0;

        if (at == UINT32_MAX)
                return false;
        *tag = (struct tag){.kind = 'v', .from = at};
        at += c->open.n;
        while (at < c->n && is_space(c->text[at]))
                at++;
        if (at < c->n && memchr("#^/>!=&{<$", c->text[at], 10))
                tag->kind = c->text[at++];
        if (tag->kind == '{')
                closing = '}';
        else if (tag->kind == '=')
                closing = '=';
        end = find(c, at, c->close, closing);
        if (end == UINT32_MAX) {
                fail(c, tag->from, "the tag is not closed: %.*s is missing", NAME_SHOWN(c->close));
                return false;
        }
        tag->name = trimmed(c->text + at, end - at);
        tag->to = end + (closing ? 1 : 0) + c->close.n;
        look_around(c, tag);
        if (tag->kind == '{')
                tag->kind = '&';
        if (tag->kind != '!' && tag->kind != '=')
                check_name(c, tag);
        return !c->error;
}

static void set_delimiters(struct compiler *c, const struct tag *tag) {
        struct mustache_text both = tag->name, one = {both.p, 0}, two;

        while (one.n < both.n && !is_space(both.p[one.n]))
                one.n++;
        two = trimmed(both.p + one.n, both.n - one.n);
        for (uint32_t i = 0; i < two.n; i++)
                if (is_space(two.p[i]))
                        two.n = 0;
        if (!one.n || !two.n || one.n > 64 || two.n > 64 || memchr(one.p, '=', one.n) ||
                        memchr(two.p, '=', two.n)) {
                fail(c, tag->from, "two delimiters were expected, without '=' and blanks in them");
                return;
        }
        c->open = one;
        c->close = two;
}

/* The name of a partial or parent: with an asterisk it is looked up first. */
static void set_dynamic(struct op *op) {
        if (op->text.p[0] != '*')
                return;
        op->flags |= OP_DYNAMIC;
        op->text = trimmed(op->text.p + 1, op->text.n - 1);
}

/* ---- tags with a body ---- */

static struct frame *frame_push(struct compiler *c, const struct tag *tag) {
        struct frame *f;

        if (c->n_frames == MUSTACHE_NEST_MAX) {
                fail(c, tag->from, "nested deeper than %u levels", MUSTACHE_NEST_MAX);
                return NULL;
        }
        f = &c->frames[c->n_frames];
        *f = (struct frame){.kind = tag->kind,
                        .name = tag->name,
                        .at = tag->from,
                        .op = NO_OP,
                        .lead = NO_OP,
                        .strip = strip_now(c),
                        .ignored = is_ignored(c)};
        return f;
}

static void open_section(struct compiler *c, const struct tag *tag) {
        struct frame *f = frame_push(c, tag);

        if (!f)
                return;
        if (!f->ignored)
                f->op = op_add(c, (struct op){.kind = tag->kind == '#' ? OP_SECTION : OP_INVERTED,
                                                  .at = tag->from,
                                                  .text = tag->name});
        c->n_frames++;
}

/* What stands before it on its line may turn out to be its indentation: that is known at its end. */
static void open_parent(struct compiler *c, const struct tag *tag, uint32_t from) {
        struct frame *f = frame_push(c, tag);
        struct op op = {.kind = OP_PARENT, .at = tag->from, .text = tag->name};

        if (!f)
                return;
        add_text(c, from, tag->left ? tag->line : tag->from, !tag->left);
        set_dynamic(&op);
        if (!f->ignored && tag->left) {
                f->lead = c->program->n_ops;
                op.indent = indent_of(c, tag->line, tag->from);
                if (op.indent.n)
                        op_add(c, (struct op){.kind = OP_TEXT, .flags = OP_LINE, .text = op.indent});
                else
                        op_add(c, (struct op){.kind = OP_INDENT});
        }
        if (!f->ignored)
                f->op = op_add(c, op);
        c->n_frames++;
}

/* The body of a block begins on the line at `from`: what are its lines indented by? */
static void body_indent(struct compiler *c, struct frame *f, struct op *op, uint32_t from) {
        uint32_t line = from, at = from, outer = strip_now(c);

        for (; at < c->n && is_space(c->text[at]); at++)
                if (c->text[at] == '\n')
                        line = at + 1;
        if (c->n - at > c->open.n && memcmp(c->text + at, c->open.p, c->open.n) == 0 &&
                        trimmed(c->text + at + c->open.n, c->n - at - c->open.n).p[0] == '/')
                return; /* it is empty */
        f->strip = at - line > outer ? at - line : outer;
        op->indent = indent_of(c, line, at);
}

static void open_block(struct compiler *c, const struct tag *tag, bool standalone, bool argument) {
        struct op op = {.kind = OP_BLOCK, .at = tag->from, .text = tag->name};
        struct frame *f = frame_push(c, tag);

        if (!f)
                return;
        if (argument)
                f->ignored = innermost(c)->ignored;
        if (tag->left && !argument)
                op.indent = indent_of(c, tag->line, tag->from);
        if (standalone) {
                op.flags = OP_LINE | (argument ? 0 : OP_STANDALONE);
                body_indent(c, f, &op, tag->next);
        }
        if (!f->ignored)
                f->op = op_add(c, op);
        c->n_frames++;
}

/* Behind the closing tag of a parent: its line is gone when nothing else was on it. */
static void close_parent(struct compiler *c, const struct frame *f, const struct tag *tag) {
        struct op *ops = c->program->ops;

        if (c->error || f->lead == NO_OP)
                return;
        if (!tag->right) {
                ops[f->op].indent.n = 0;
                return;
        }
        ops[f->lead] = (struct op){.kind = OP_TEXT, .text = {"", 0}, .end = f->lead + 1};
        ops[f->op].flags |= OP_STANDALONE;
}

static bool close_matches(struct compiler *c, const struct tag *tag) {
        const struct frame *f = innermost(c);

        if (!f)
                fail(c, tag->from, "'%.*s' is closed but was not opened", NAME_SHOWN(tag->name));
        else if (!is_same(f->name, tag->name))
                fail(c, tag->from, "'%.*s' is closed, but '%.*s' is open", NAME_SHOWN(tag->name),
                                NAME_SHOWN(f->name));
        return !c->error;
}

/* Closes the innermost; `from` is where its last text begins. Is nothing left of the tag's line? */
static bool close_tag(struct compiler *c, const struct tag *tag, uint32_t from) {
        const struct frame *f = innermost(c);
        bool standalone;

        if (!close_matches(c, tag))
                return false;
        bool argument = f->kind == '$' && c->n_frames > 1 && f[-1].kind == '<';
        standalone = tag->left && (tag->right || argument);
        add_text(c, from, standalone ? tag->line : tag->from, !standalone);
        if (f->op != NO_OP && !c->error)
                c->program->ops[f->op].end = c->program->n_ops;
        c->n_frames--;
        if (f->kind == '<') {
                close_parent(c, f, tag);
                return f->lead != NO_OP && tag->right;
        }
        return standalone && !argument;
}

/* ---- the whole ---- */

static bool is_standalone(const struct tag *tag) {
        return tag->left && tag->right && tag->kind != 'v' && tag->kind != '&';
}

static void leaf(struct compiler *c, const struct tag *tag, bool standalone) {
        struct op op = {.kind = OP_VARIABLE, .at = tag->from, .text = tag->name};

        if (tag->kind == '=')
                set_delimiters(c, tag);
        if (tag->kind == '=' || tag->kind == '!')
                return;
        if (tag->kind == '&')
                op.flags = OP_RAW;
        if (tag->kind == '>') {
                op.kind = OP_PARTIAL;
                set_dynamic(&op);
                if (standalone) {
                        op.flags |= OP_STANDALONE;
                        op.indent = indent_of(c, tag->line, tag->from);
                }
        }
        if (!is_ignored(c))
                op_add(c, op);
}

static void compile_tag(struct compiler *c, const struct tag *tag) {
        const struct frame *f = innermost(c);
        bool argument = tag->kind == '$' && f && f->kind == '<';
        bool standalone = argument ? tag->right : is_standalone(tag);
        uint32_t from = c->at;

        if (tag->kind == '/')
                standalone = close_tag(c, tag, from);
        else if (tag->kind != '<')
                add_text(c, from, standalone && tag->left ? tag->line : tag->from, !standalone);
        switch (tag->kind) {
        case '/':
                break;
        case '#':
        case '^':
                open_section(c, tag);
                break;
        case '<':
                open_parent(c, tag, from);
                standalone = false;
                break;
        case '$':
                open_block(c, tag, standalone, argument);
                break;
        default:
                leaf(c, tag, standalone);
        }
        c->at = standalone ? tag->next : tag->to;
}

static int compile(struct compiler *c) {
        struct tag tag;

        while (!c->error && next_tag(c, &tag))
                compile_tag(c, &tag);
        add_text(c, c->at, c->n, false);
        if (c->n_frames)
                fail(c, innermost(c)->at, "'%.*s' is not closed", NAME_SHOWN(innermost(c)->name));
        return c->error;
}

int mustache_compile(const char *name, const char *file, size_t n, size_t from,
                struct mustache **ret, struct mustache_error *err) {
        __attribute__((cleanup(mustache_freep))) struct mustache *t = calloc(1, sizeof(*t));
        struct compiler c = {.program = t,
                        .n = (uint32_t)n,
                        .start = (uint32_t)from,
                        .at = (uint32_t)from,
                        .open = {"{{", 2},
                        .close = {"}}", 2},
                        .err = err};
        int r;

        *err = (struct mustache_error){0};
        if (n >= UINT32_MAX) {
                snprintf(err->text, sizeof(err->text), "longer than 4 GiB");
                return MUSTACHE_E_LIMIT;
        }
        if (t)
                t->file = malloc(n + 1);
        if (!t || !t->file)
                return -ENOMEM;
        snprintf(t->name, sizeof(t->name), "%s", name);
        memcpy(err->name, t->name, sizeof(err->name));
        memcpy(t->file, file, n);
        t->file[n] = 0; /* trimmed() may look at one byte behind the end */
        t->n_file = n;
        c.text = t->file;
        r = compile(&c);
        if (r)
                return r;
        *ret = t;
        t = NULL;
        return 0;
}

struct mustache *mustache_free(struct mustache *t) {
        if (!t)
                return NULL;
        free(t->ops);
        free(t->file);
        free(t);
        return NULL;
}

void mustache_freep(struct mustache **t) {
        *t = mustache_free(*t);
}

const char *mustache_name(const struct mustache *t) {
        return t->name;
}

bool mustache_asks_for(const struct mustache *t, const char *name) {
        size_t n = strlen(name);

        for (uint32_t i = 0; i < t->n_ops; i++) {
                const struct op *op = &t->ops[i];
                bool looks = op->kind == OP_VARIABLE || op->kind == OP_SECTION ||
                             op->kind == OP_INVERTED || op->flags & OP_DYNAMIC;
                if (looks && op->text.n >= n && memcmp(op->text.p, name, n) == 0 &&
                                (op->text.n == n || op->text.p[n] == '.'))
                        return true;
        }
        return false;
}

bool mustache_lacks(const struct mustache *t, mustache_find_fn finds, void *find_ctx,
                struct mustache_error *ret_at) {
        for (uint32_t i = 0; i < t->n_ops; i++) {
                const struct op *op = &t->ops[i];
                const struct mustache *found = NULL;
                struct mustache_error ignored;

                if ((op->kind != OP_PARTIAL && op->kind != OP_PARENT) || op->flags & OP_DYNAMIC ||
                                finds(find_ctx, op->text, &found, &ignored) != 0 || found)
                        continue;
                *ret_at = (struct mustache_error){0};
                mustache_place(t->file, t->n_file, op->at, ret_at);
                snprintf(ret_at->name, sizeof(ret_at->name), "%.*s",
                                op->text.n > 128 ? 128 : (int)op->text.n, op->text.p);
                return true;
        }
        return false;
}
