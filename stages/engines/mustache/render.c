/*
 * render -- a program and data become text.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/mustache/place.h"
#include "stages/engines/mustache/program.h"

#define OUTPUT_FIRST 4096u

/* A parent being rendered: what it was given for the blocks within. */
struct arguments {
        const struct mustache *t;
        uint32_t from, to; /* operations: blocks only */
        const struct arguments *inner;
};

struct run {
        const struct mustache_options *options;
        const struct mustache_value *values;
        struct mustache_output *out;
        struct mustache_error *err;
        uint64_t work;
        uint32_t contexts[MUSTACHE_DEPTH_MAX + 2]; /* the root, then one a level */
        uint32_t n_contexts, depth;
        char indent[MUSTACHE_INDENT_MAX];
        uint32_t indent_from, indent_to; /* of it, what holds now */
        bool in_line;                    /* the next line has begun already */
        struct arguments *outermost, *innermost;
};

static int exec(struct run *run, const struct mustache *t, uint32_t from, uint32_t to);

__attribute__((format(printf, 5, 6))) static int fail(struct run *run, const struct mustache *t,
                const struct op *op, int code, const char *format, ...) {
        va_list args;

        mustache_place(t->file, t->n_file, op->at, run->err);
        snprintf(run->err->name, sizeof(run->err->name), "%s", t->name);
        va_start(args, format);
        vsnprintf(run->err->text, sizeof(run->err->text), format, args);
        va_end(args);
        return code;
}

#define NAME_SHOWN(name) (int)((name).n > 64 ? 64 : (name).n), (name).p

/* ---- output ---- */

void mustache_output_clear(struct mustache_output *out) {
        free(out->p);
        *out = (struct mustache_output){0};
}

static int room(struct run *run, size_t n) {
        struct mustache_output *out = run->out;
        size_t cap = out->cap ? out->cap : OUTPUT_FIRST;
        char *more;

        if (n > run->options->max_bytes - out->n)
                return MUSTACHE_E_LIMIT;
        while (cap - out->n < n)
                cap *= 2;
        if (cap == out->cap)
                return 0;
        more = realloc(out->p, cap);
        if (!more)
                return -ENOMEM;
        out->p = more;
        out->cap = cap;
        return 0;
}

static int put(struct run *run, const char *p, uint32_t n) {
        int r = room(run, n);

        if (r)
                return r;
        if (n)
                memcpy(run->out->p + run->out->n, p, n);
        run->out->n += n;
        return 0;
}

static int put_indent(struct run *run) {
        bool begun = run->in_line;

        run->in_line = false;
        if (begun)
                return 0;
        return put(run, run->indent + run->indent_from, run->indent_to - run->indent_from);
}

/* A template's own text: each of its lines is indented. */
static int put_text(struct run *run, const struct op *op) {
        const char *p = op->text.p, *end = p + op->text.n;
        int r = op->flags & OP_LINE ? put_indent(run) : 0;

        if (run->indent_from == run->indent_to)
                return r ? r : put(run, p, op->text.n);
        while (!r && p < end) {
                const char *nl = memchr(p, '\n', (size_t)(end - p)), *next = nl ? nl + 1 : end;
                r = put(run, p, (uint32_t)(next - p));
                p = next;
                if (!r && p < end)
                        r = put_indent(run);
        }
        return r;
}

static int put_html(struct run *run, struct mustache_text text) {
        uint32_t from = 0;
        int r = 0;

        for (uint32_t i = 0; !r && i < text.n; i++) {
                const char *entity = NULL;
                switch (text.p[i]) {
                case '&':
                        entity = "&amp;";
                        break;
                case '"':
                        entity = "&quot;";
                        break;
                case '<':
                        entity = "&lt;";
                        break;
                case '>':
                        entity = "&gt;";
                        break;
                }
                if (!entity)
                        continue;
                r = put(run, text.p + from, i - from);
                r = r ? r : put(run, entity, (uint32_t)strlen(entity));
                from = i + 1;
        }
        return r ? r : put(run, text.p + from, text.n - from);
}

static int limit_failed(struct run *run, const struct mustache *t, const struct op *op, int r) {
        if (r != MUSTACHE_E_LIMIT)
                return r;
        return fail(run, t, op, r, "the output is longer than %zu bytes", run->options->max_bytes);
}

/* ---- names ---- */

static uint32_t member(struct run *run, uint32_t map, struct mustache_text key) {
        uint32_t found = DATA_NONE;

        if (run->values[map].kind != DATA_MAP)
                return DATA_NONE;
        for (uint32_t i = run->values[map].first; i != DATA_NONE; i = run->values[i].next) {
                const struct mustache_value *v = &run->values[i];
                run->work++;
                if (v->key.n == key.n && memcmp(v->key.p, key.p, key.n) == 0)
                        found = i; /* of a key given twice the last counts */
        }
        return found;
}

static struct mustache_text first_part(struct mustache_text name) {
        const char *dot = memchr(name.p, '.', name.n);

        return (struct mustache_text){name.p, dot ? (uint32_t)(dot - name.p) : name.n};
}

/* DATA_NONE: it is in no context. The first part is looked for from the innermost context outwards,
 * the others only in what it names. */
static uint32_t lookup(struct run *run, struct mustache_text name) {
        struct mustache_text part = first_part(name);
        uint32_t at = DATA_NONE;

        if (!run->n_contexts)
                return DATA_NONE;
        if (name.n == 1 && name.p[0] == '.')
                return run->contexts[run->n_contexts - 1];
        for (uint32_t i = run->n_contexts; i > 0 && at == DATA_NONE; i--)
                at = member(run, run->contexts[i - 1], part);
        while (at != DATA_NONE && part.n < name.n) {
                name.p += part.n + 1;
                name.n -= part.n + 1;
                part = first_part(name);
                at = member(run, at, part);
        }
        return at;
}

static int missing(struct run *run, const struct mustache *t, const struct op *op) {
        if (!run->options->missing_is_error)
                return 0;
        return fail(run, t, op, MUSTACHE_E_RENDER, "'%.*s' is missing", NAME_SHOWN(op->text));
}

static bool is_true(const struct mustache_value *v) {
        switch ((enum data_kind)v->kind) {
        case DATA_NULL:
        case DATA_FALSE:
                return false;
        case DATA_TRUE:
        case DATA_MAP:
                return true;
        case DATA_LIST:
                return v->first != DATA_NONE;
        case DATA_TEXT:
                return v->text.n > 0;
        case DATA_NUMBER:
                for (uint32_t i = 0; i < v->text.n && v->text.p[i] != 'e' && v->text.p[i] != 'E'; i++)
                        if (v->text.p[i] >= '1' && v->text.p[i] <= '9')
                                return true;
                return false;
        }
        return false;
}

/* ---- operations ---- */

static int put_mark(struct run *run, const struct mustache *t, const struct op *op) {
        struct mustache_marks *marks = run->options->marks;

        if (marks->n == MUSTACHE_MARKS_MAX)
                return fail(run, t, op, MUSTACHE_E_LIMIT, "'%.*s' more than %u times",
                                NAME_SHOWN(op->text), MUSTACHE_MARKS_MAX);
        marks->at[marks->n++] = run->out->n;
        return 0;
}

static int variable(struct run *run, const struct mustache *t, const struct op *op) {
        uint32_t at = lookup(run, op->text);
        const struct mustache_value *v;

        if (at == DATA_NONE)
                return missing(run, t, op);
        v = &run->values[at];
        if (v->kind == DATA_LIST || v->kind == DATA_MAP)
                return fail(run, t, op, MUSTACHE_E_RENDER, "'%.*s' is a %s, not a text",
                                NAME_SHOWN(op->text), v->kind == DATA_LIST ? "list" : "map");
        if (run->options->marks && v->text.p == run->options->marks->text)
                return put_mark(run, t, op);
        if (op->flags & OP_RAW || run->options->escape == MUSTACHE_ESCAPE_NONE)
                return put(run, v->text.p, v->text.n);
        return put_html(run, v->text);
}

/* The operations of a body or of another template, for the sake of op. */
static int enter(struct run *run, const struct mustache *t, const struct op *op,
                const struct mustache *owner, uint32_t from, uint32_t to) {
        int r;

        if (run->depth == MUSTACHE_DEPTH_MAX)
                return fail(run, t, op, MUSTACHE_E_LIMIT,
                                "rendered deeper than %u levels: does it include itself?",
                                MUSTACHE_DEPTH_MAX);
        run->depth++;
        r = exec(run, owner, from, to);
        run->depth--;
        return r;
}

static int with_context(
                struct run *run, const struct mustache *t, uint32_t i, uint32_t context) {
        const struct op *op = &t->ops[i];
        int r;

        run->contexts[run->n_contexts++] = context;
        r = enter(run, t, op, t, i + 1, op->end);
        run->n_contexts--;
        return r;
}

static int section(struct run *run, const struct mustache *t, uint32_t i) {
        const struct op *op = &t->ops[i];
        uint32_t at = lookup(run, op->text);
        bool is = at != DATA_NONE && is_true(&run->values[at]);
        int r = 0;

        if (op->kind == OP_INVERTED)
                return is ? 0 : enter(run, t, op, t, i + 1, op->end);
        if (!is)
                return 0;
        if (run->values[at].kind != DATA_LIST)
                return with_context(run, t, i, at);
        for (at = run->values[at].first; !r && at != DATA_NONE; at = run->values[at].next)
                r = with_context(run, t, i, at);
        return r;
}

/* The lines from here on are indented by that much more; alone: as much as they are now, else not at
 * all. */
static int indent_more(struct run *run, const struct mustache *t, const struct op *op, bool alone) {
        if (!alone)
                run->indent_from = run->indent_to;
        if (op->indent.n > MUSTACHE_INDENT_MAX - run->indent_to)
                return fail(run, t, op, MUSTACHE_E_LIMIT, "indented by more than %u bytes",
                                MUSTACHE_INDENT_MAX);
        if (op->indent.n)
                memcpy(run->indent + run->indent_to, op->indent.p, op->indent.n);
        run->indent_to += op->indent.n;
        return 0;
}

/* *ret is NULL: there is none. */
static int partner(struct run *run, const struct mustache *t, const struct op *op,
                const struct mustache **ret) {
        struct mustache_text name = op->text;
        int r;

        *ret = NULL;
        if (op->flags & OP_DYNAMIC) {
                uint32_t at = lookup(run, name);
                if (at == DATA_NONE)
                        return missing(run, t, op);
                name = run->values[at].text;
        }
        if (run->options->find && name.n) {
                r = run->options->find(run->options->find_ctx, name, ret, run->err);
                if (r)
                        return r;
        }
        if (!*ret && run->options->missing_is_error)
                return fail(run, t, op, MUSTACHE_E_RENDER, "there is no template '%.*s'",
                                NAME_SHOWN(name));
        return 0;
}

/* A partial, or a parent with what it is given for its blocks. */
static int partial(struct run *run, const struct mustache *t, uint32_t i) {
        const struct op *op = &t->ops[i];
        const uint32_t from = run->indent_from, to = run->indent_to;
        const struct mustache *other;
        struct arguments given = {.t = t, .from = i + 1, .to = op->end};
        struct arguments *before = run->innermost;
        int r = partner(run, t, op, &other);

        if (r || !other)
                return r;
        if (op->kind == OP_PARENT) {
                if (before)
                        before->inner = &given;
                else
                        run->outermost = &given;
                run->innermost = &given;
        }
        r = indent_more(run, t, op, op->flags & OP_STANDALONE);
        if (!r)
                r = enter(run, t, op, other, 0, other->n_ops);
        run->indent_from = from;
        run->indent_to = to;
        if (op->kind == OP_PARENT) {
                run->innermost = before;
                if (before)
                        before->inner = NULL;
                else
                        run->outermost = NULL;
        }
        return r;
}

/* What the outermost parent that has something for this block gives for it. */
static const struct op *argument(
                struct run *run, struct mustache_text name, const struct mustache **ret) {
        for (const struct arguments *a = run->outermost; a; a = a->inner)
                for (uint32_t i = a->from; i < a->to; i = a->t->ops[i].end) {
                        const struct op *op = &a->t->ops[i];
                        run->work++;
                        if (op->text.n != name.n || memcmp(op->text.p, name.p, name.n))
                                continue;
                        *ret = a->t;
                        return op;
                }
        return NULL;
}

static int block(struct run *run, const struct mustache *t, uint32_t i) {
        const struct op *site = &t->ops[i];
        const uint32_t from = run->indent_from, to = run->indent_to;
        const struct mustache *owner = t;
        const struct op *body = argument(run, site->text, &owner);
        int r = 0;

        if (!body)
                body = site;
        if (body != site || site->flags & OP_STANDALONE)
                r = indent_more(run, t, site, true);
        uint32_t first = (uint32_t)(body - owner->ops) + 1;
        if (body->flags & OP_LINE && !(site->flags & OP_STANDALONE))
                run->in_line = true;
        else if (!r && site->flags & OP_STANDALONE && !(body->flags & OP_LINE) && first < body->end)
                r = put_indent(run);
        if (!r)
                r = enter(run, t, site, owner, first, body->end);
        run->in_line = false;
        run->indent_from = from;
        run->indent_to = to;
        return r;
}

static int step(struct run *run, const struct mustache *t, uint32_t i) {
        const struct op *op = &t->ops[i];

        switch ((enum op_kind)op->kind) {
        case OP_TEXT:
                return put_text(run, op);
        case OP_INDENT:
                return put_indent(run);
        case OP_VARIABLE:
                return variable(run, t, op);
        case OP_SECTION:
        case OP_INVERTED:
                return section(run, t, i);
        case OP_PARTIAL:
        case OP_PARENT:
                return partial(run, t, i);
        case OP_BLOCK:
                return block(run, t, i);
        }
        return 0;
}

static int exec(struct run *run, const struct mustache *t, uint32_t from, uint32_t to) {
        int r = 0;

        for (uint32_t i = from; !r && i < to; i = t->ops[i].end) {
                if (++run->work > run->options->max_work)
                        return fail(run, t, &t->ops[i], MUSTACHE_E_LIMIT,
                                        "rendering takes more than %llu steps",
                                        (unsigned long long)run->options->max_work);
                r = step(run, t, i);
                if (r == MUSTACHE_E_LIMIT && !run->err->line)
                        r = limit_failed(run, t, &t->ops[i], r);
        }
        return r;
}

int mustache_render(const struct mustache *t, const struct mustache_data *data,
                const struct mustache_options *options, struct mustache_output *out,
                struct mustache_error *err) {
        struct run run = {.options = options,
                        .values = mustache_data_values(data),
                        .out = out,
                        .err = err};

        *err = (struct mustache_error){0};
        out->n = 0;
        if (options->marks)
                options->marks->n = 0;
        if (run.values) {
                run.contexts[0] = DATA_ROOT;
                run.n_contexts = 1;
        }
        return exec(&run, t, 0, t->n_ops);
}
