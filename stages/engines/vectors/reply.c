#include "stages/engines/vectors/reply.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "stages/engines/vectors/vectors.h"

#define DEPTH_ROWS 2u   /* [ inside of {"data": */
#define DEPTH_ROW 3u    /* { of one row */
#define DEPTH_VECTOR 4u /* [ of its embedding */
#define DEPTH_MAX 32u

enum field { FIELD_OTHER, FIELD_ROWS, FIELD_INDEX, FIELD_VECTOR, FIELD_SCORE, FIELD_ERROR, FIELD_MESSAGE };

struct parse {
        const char *rows_name; /* "data", "results"; NULL: only the complaint */
        uint32_t n;            /* rows expected */
        uint32_t depth;
        bool in_rows;
        bool in_vector;
        bool in_error;
        enum field field;
        /* of the row at hand */
        int64_t index;
        bool has_score;
        double score;
        float *numbers;
        uint32_t n_numbers;
        /* of all */
        uint32_t dimension;
        float *vectors;
        double *scores;
        bool *seen;
        uint32_t n_seen;
        const char *wrong;
        char *message;
        size_t n_message;
};

static int fail(struct parse *p, const char *wrong) {
        if (!p->wrong)
                p->wrong = wrong;
        return 0;
}

/* ---- rows ---------------------------------------------------------------------------------- */

static int vector_end(struct parse *p) {
        if (p->n_numbers == 0)
                return fail(p, "a vector is empty");
        if (!p->vectors) {
                p->dimension = p->n_numbers;
                p->vectors = calloc((size_t)p->n * p->dimension, sizeof(*p->vectors));
                if (!p->vectors)
                        return fail(p, "out of memory");
        }
        return p->n_numbers == p->dimension ? 1 : fail(p, "its vectors differ in length");
}

static int row_end(struct parse *p) {
        if (p->index < 0)
                p->index = p->n_seen; /* some leave the index out where order tells it */
        if (p->index >= p->n || p->seen[p->index])
                return fail(p, "it answers for a text that was not asked, or twice for one");
        if (p->scores) {
                if (!p->has_score)
                        return fail(p, "a row has no score");
                p->scores[p->index] = p->score;
        } else {
                if (p->n_numbers == 0)
                        return fail(p, "a row has no vector");
                memcpy(p->vectors + (size_t)p->index * p->dimension, p->numbers,
                                p->dimension * sizeof(*p->vectors));
        }
        p->seen[p->index] = true;
        p->n_seen++;
        return 1;
}

static int number(struct parse *p, double v) {
        if (!isfinite(v))
                return fail(p, "a number is infinite");
        if (p->in_vector && p->depth == DEPTH_VECTOR) {
                if (p->n_numbers == VECTORS_DIMENSION_MAX)
                        return fail(p, "a vector has more than 8192 numbers");
                p->numbers[p->n_numbers++] = (float)v;
                return isfinite((float)v) ? 1 : fail(p, "a number is infinite");
        }
        if (p->in_rows && p->depth == DEPTH_ROW && p->field == FIELD_INDEX)
                p->index = v >= 0 && v < p->n ? (int64_t)v : (int64_t)p->n;
        if (p->in_rows && p->depth == DEPTH_ROW && p->field == FIELD_SCORE) {
                p->score = v;
                p->has_score = true;
        }
        return 1;
}

/* ---- yajl ---------------------------------------------------------------------------------- */

static bool is(const unsigned char *key, size_t n, const char *name) {
        return strlen(name) == n && memcmp(key, name, n) == 0;
}

static int on_key(void *ctx, const unsigned char *key, size_t n) {
        struct parse *p = ctx;

        p->field = FIELD_OTHER;
        if (p->depth == 1 && p->rows_name && is(key, n, p->rows_name))
                p->field = FIELD_ROWS;
        else if (p->depth == 1 && is(key, n, "error"))
                p->field = FIELD_ERROR;
        else if ((p->depth == 1 || (p->depth == 2 && p->in_error)) && is(key, n, "message"))
                p->field = FIELD_MESSAGE;
        else if (p->in_rows && p->depth == DEPTH_ROW && is(key, n, "index"))
                p->field = FIELD_INDEX;
        else if (p->in_rows && p->depth == DEPTH_ROW && is(key, n, "embedding"))
                p->field = FIELD_VECTOR;
        else if (p->in_rows && p->depth == DEPTH_ROW &&
                        (is(key, n, "relevance_score") || is(key, n, "score")))
                p->field = FIELD_SCORE;
        return 1;
}

static int on_open(struct parse *p, bool map) {
        const enum field field = p->field;

        p->field = FIELD_OTHER;
        if (++p->depth > DEPTH_MAX)
                return fail(p, "it is nested too deeply");
        if (p->depth == DEPTH_ROWS && field == FIELD_ROWS && !map)
                p->in_rows = true;
        else if (p->depth == DEPTH_ROWS && field == FIELD_ERROR && map)
                p->in_error = true;
        else if (p->in_rows && p->depth == DEPTH_ROW && map) {
                p->index = -1;
                p->has_score = false;
                p->n_numbers = 0;
        } else if (p->in_rows && p->depth == DEPTH_VECTOR && field == FIELD_VECTOR && !map &&
                        p->numbers) {
                p->in_vector = true;
                p->n_numbers = 0;
        }
        return 1;
}

static int on_close(struct parse *p, bool map) {
        int go = 1;

        if (p->in_vector && p->depth == DEPTH_VECTOR) {
                p->in_vector = false;
                go = vector_end(p);
        } else if (p->in_rows && p->depth == DEPTH_ROW && map) {
                go = row_end(p);
        } else if (p->depth == DEPTH_ROWS) {
                p->in_rows = p->in_error = false;
        }
        p->field = FIELD_OTHER;
        p->depth--;
        return go;
}

static int on_start_map(void *ctx) {
        return on_open(ctx, true);
}
static int on_end_map(void *ctx) {
        return on_close(ctx, true);
}
static int on_start_array(void *ctx) {
        return on_open(ctx, false);
}
static int on_end_array(void *ctx) {
        return on_close(ctx, false);
}
static int on_double(void *ctx, double v) {
        return number(ctx, v);
}
static int on_integer(void *ctx, long long v) {
        return number(ctx, (double)v);
}
static int on_string(void *ctx, const unsigned char *text, size_t n) {
        struct parse *p = ctx;

        if ((p->field == FIELD_MESSAGE || p->field == FIELD_ERROR) && p->message && n > 0)
                snprintf(p->message, p->n_message, "%.*s", n < 400 ? (int)n : 400, text);
        return 1;
}

static const yajl_callbacks callbacks = {
                .yajl_integer = on_integer,
                .yajl_double = on_double,
                .yajl_string = on_string,
                .yajl_start_map = on_start_map,
                .yajl_map_key = on_key,
                .yajl_end_map = on_end_map,
                .yajl_start_array = on_start_array,
                .yajl_end_array = on_end_array,
};

static int run(struct parse *p, const char *bytes, size_t n_bytes) {
        yajl_handle yajl = yajl_alloc(&callbacks, NULL, p);
        yajl_status status;

        if (!yajl)
                return -ENOMEM;
        status = yajl_parse(yajl, (const unsigned char *)bytes, n_bytes);
        if (status == yajl_status_ok)
                status = yajl_complete_parse(yajl);
        yajl_free(yajl);
        if (status == yajl_status_error)
                (void)fail(p, "it is not JSON");
        return p->wrong ? -EBADMSG : 0;
}

/* ---- the two answers ------------------------------------------------------------------------- */

static int finish(struct parse *p, int r, bool all, struct index_error *err) {
        if (r == 0 && (all ? p->n_seen != p->n : p->n_seen == 0)) {
                (void)fail(p, "it does not answer for every text");
                r = -EBADMSG;
        }
        if (r == -EBADMSG && err)
                snprintf(err->text, sizeof(err->text), "its answer makes no sense: %s", p->wrong);
        free(p->seen);
        free(p->numbers);
        return r;
}

int reply_vectors(const char *bytes, size_t n_bytes, uint32_t n, struct index_error *err,
                uint32_t *ret_dimension, float **ret_vectors) {
        struct parse p = {.rows_name = "data",
                        .n = n,
                        .seen = calloc(n, sizeof(bool)),
                        .numbers = calloc(VECTORS_DIMENSION_MAX, sizeof(float))};
        int r = p.seen && p.numbers ? run(&p, bytes, n_bytes) : -ENOMEM;

        r = finish(&p, r, true, err);
        if (r != 0) {
                free(p.vectors);
                return r;
        }
        *ret_dimension = p.dimension;
        *ret_vectors = p.vectors;
        return 0;
}

int reply_scores(const char *bytes, size_t n_bytes, uint32_t n, struct index_error *err,
                double *ret_scores) {
        struct parse p = {.rows_name = "results",
                        .n = n,
                        .seen = calloc(n, sizeof(bool)),
                        .scores = ret_scores};
        int r;

        for (uint32_t i = 0; i < n; i++)
                ret_scores[i] = -INFINITY;
        r = p.seen ? run(&p, bytes, n_bytes) : -ENOMEM;
        return finish(&p, r, false, err);
}

void reply_complaint(const char *bytes, size_t n_bytes, char *to, size_t n) {
        struct parse p = {.message = to, .n_message = n};

        to[0] = '\0';
        (void)run(&p, bytes, n_bytes);
        for (char *c = to; *c; c++)
                if ((unsigned char)*c < ' ' || *c == '"')
                        *c = ' ';
}
