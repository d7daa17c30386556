#include "stages/common/settings.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"
#include "stages/common/channel.h"
#include "stages/common/settings_value.h"

#define N_OF(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

/* ---- rows, from the table ---------------------------------------------------------------- */

#define CHOICES(type, list) static const char *const words_##type[] = {list NULL};
#define CHOICE(id, word) word,
#define SETTINGS_PART_CHOICES
#include "stages/common/settings.def"

#define SETTINGS_LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

#define AT_ROW(kind, path_, key_, applies_, at_, sentence_) \
        .path = (key_), .type = (kind), .offset = offsetof(struct ROWS_OF, path_), \
        .applies = SETTINGS_##applies_, .at = (at_), .sentence = (sentence_)

#define SECTION(path_, member, sentence_) \
        {.path = #path_, .type = SETTINGS_SECTION, .sentence = (sentence_)},
#define SECTION_END(path_, member)
#define U64(path_, member, def_, min_, max_, unit_, applies_, at_, sentence_) \
        {AT_ROW(SETTINGS_U64, path_, #path_, applies_, at_, sentence_), \
         .def = (def_), .min = (min_), .max = (max_), .unit = (unit_)},
#define AUTO(path_, member, min_, max_, unit_, applies_, at_, sentence_) \
        {AT_ROW(SETTINGS_AUTO_U64, path_, #path_, applies_, at_, sentence_), \
         .def = SETTINGS_AUTO, .min = (min_), .max = (max_), .unit = (unit_)},
#define F64(path_, member, def_, min_, max_, applies_, at_, sentence_) \
        {AT_ROW(SETTINGS_F64, path_, #path_, applies_, at_, sentence_), \
         .def_f64 = (def_), .min_f64 = (min_), .max_f64 = (max_)},
#define BOOL(path_, member, def_, applies_, at_, sentence_) \
        {AT_ROW(SETTINGS_BOOL, path_, #path_, applies_, at_, sentence_), .def = (def_), .max = 1},
#define ENUM(path_, member, choices_, def_, applies_, at_, sentence_) \
        {AT_ROW(SETTINGS_ENUM, path_, #path_, applies_, at_, sentence_), \
         .def = SETTINGS_##def_, .choices = words_##choices_, .max = N_OF(words_##choices_) - 2},
#define STR_AS(path_, member, key_, leaf, def_, form_, applies_, at_, sentence_) \
        {AT_ROW(SETTINGS_STR, path_, key_, applies_, at_, sentence_), \
         .def_text = (def_), .form = SETTINGS_##form_},
#define STRS(path_, member, def_, form_, max_items_, applies_, at_, sentence_) \
        {AT_ROW(SETTINGS_STRS, path_, #path_, applies_, at_, sentence_), \
         .def_list = def_, .form = SETTINGS_##form_, .max_items = (max_items_)},
#define ENDPOINT(path_, member, applies_, at_, sentence_) \
        {AT_ROW(SETTINGS_ENDPOINT, path_, #path_, applies_, at_, sentence_)},
#define WORKERS(path_, member, applies_, at_, sentence_) \
        {AT_ROW(SETTINGS_WORKERS, path_, #path_, applies_, at_, sentence_), \
         .max_items = SETTINGS_WORKERS_MAX},
#define MODELS(path_, member, applies_, at_, sentence_) \
        {AT_ROW(SETTINGS_MODELS, path_, #path_, applies_, at_, sentence_), \
         .max_items = SETTINGS_MODELS_MAX},

static const struct settings_row worker_rows[] = {
#define ROWS_OF settings_worker
#define SETTINGS_PART_WORKER
#include "stages/common/settings.def"
#undef ROWS_OF
};

static const struct settings_row model_rows[] = {
#define ROWS_OF settings_model
#define SETTINGS_PART_MODEL
#include "stages/common/settings.def"
#undef ROWS_OF
};

static const struct settings_row endpoint_rows[] = {
#define ROWS_OF settings_endpoint
#define SETTINGS_PART_ENDPOINT
#include "stages/common/settings.def"
#undef ROWS_OF
};

static const struct settings_row rows[] = {
#define ROWS_OF settings
#include "stages/common/settings.def"
#undef ROWS_OF
};

#define SETTINGS_PART_END
#include "stages/common/settings.def"

const struct settings_shape settings_shape = {rows, N_OF(rows), 0, sizeof(struct settings)};
const struct settings_shape settings_worker_shape = {
        worker_rows, N_OF(worker_rows), 2, sizeof(struct settings_worker)};
const struct settings_shape settings_model_shape = {
        model_rows, N_OF(model_rows), 2, sizeof(struct settings_model)};
const struct settings_shape settings_endpoint_shape = {
        endpoint_rows, N_OF(endpoint_rows), 1, sizeof(struct settings_endpoint)};

const struct settings_row *settings_row_find(const struct settings_shape *shape, const char *path) {
        for (uint32_t i = 0; i < shape->n_rows; i++)
                if (strcmp(shape->rows[i].path, path) == 0)
                        return &shape->rows[i];
        return NULL;
}

const char *settings_key_in(const struct settings_row *row, const char *section) {
        size_t len = strlen(section);
        const char *path = row->path;

        if (len) {
                if (strncmp(path, section, len) != 0 || path[len] != '.')
                        return NULL;
                path += len + 1;
        }
        return strchr(path, '.') ? NULL : path;
}

const struct settings_shape *settings_row_shape(const struct settings_row *row) {
        switch (row->type) {
        case SETTINGS_WORKERS:
                return &settings_worker_shape;
        case SETTINGS_MODELS:
                return &settings_model_shape;
        case SETTINGS_ENDPOINT:
                return &settings_endpoint_shape;
        case SETTINGS_SECTION:
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
        case SETTINGS_F64:
        case SETTINGS_BOOL:
        case SETTINGS_ENUM:
        case SETTINGS_STR:
        case SETTINGS_STRS:
                return NULL;
        }
        return NULL;
}

int settings_text_set(void *value, const char *text, size_t len) {
        char *copy = NULL;

        if (text) {
                copy = strndup(text, len);
                if (!copy)
                        return -ENOMEM;
        }
        memcpy(value, &copy, sizeof(copy));
        return 0;
}

/* ---- free -------------------------------------------------------------------------------- */

static void strs_clear(struct settings_strs *strs) {
        for (uint32_t i = 0; i < strs->n; i++)
                free(strs->v[i]);
        free(strs->v);
        *strs = (struct settings_strs){0};
}

static void elements_clear(const struct settings_shape *shape, struct settings_elements e) {
        for (uint32_t i = 0; i < e.n; i++)
                settings_shape_clear(shape, settings_element(shape, e, i));
        free(e.v);
}

void settings_row_clear(const struct settings_row *row, void *value) {
        static const struct settings_elements none;
        static void *const nothing;
        void *one;

        switch (row->type) {
        case SETTINGS_STR:
                free(settings_pointer(value));
                memcpy(value, &nothing, sizeof(nothing));
                break;
        case SETTINGS_STRS:
                strs_clear(value);
                break;
        case SETTINGS_ENDPOINT:
                one = settings_pointer(value);
                if (one)
                        settings_shape_clear(&settings_endpoint_shape, one);
                free(one);
                memcpy(value, &nothing, sizeof(nothing));
                break;
        case SETTINGS_WORKERS:
        case SETTINGS_MODELS:
                elements_clear(settings_row_shape(row), settings_elements(value));
                memcpy(value, &none, sizeof(none));
                break;
        case SETTINGS_SECTION:
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
        case SETTINGS_F64:
        case SETTINGS_BOOL:
        case SETTINGS_ENUM:
                break;
        }
}

void settings_shape_clear(const struct settings_shape *shape, void *base) {
        for (uint32_t i = 0; i < shape->n_rows; i++)
                settings_row_clear(&shape->rows[i], (char *)base + shape->rows[i].offset);
        memset(base, 0, shape->bytes);
}

struct settings *settings_free(struct settings *s) {
        if (s)
                settings_shape_clear(&settings_shape, s);
        free(s);
        return NULL;
}

/* ---- defaults ---------------------------------------------------------------------------- */

static int strs_default(struct settings_strs *strs, const char *const *list) {
        uint32_t n = 0;
        int r;

        while (list[n])
                n++;
        if (n == 0)
                return 0;
        strs->v = calloc(n, sizeof(*strs->v));
        if (!strs->v)
                return -ENOMEM;
        strs->n = n;
        for (uint32_t i = 0; i < n; i++) {
                r = settings_text_set(&strs->v[i], list[i], SETTINGS_TEXT_MAX);
                if (r)
                        return r;
        }
        return 0;
}

static int row_default(const struct settings_row *row, void *value) {
        switch (row->type) {
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
        case SETTINGS_BOOL:
        case SETTINGS_ENUM:
                settings_number_set(row, value, row->def);
                return 0;
        case SETTINGS_F64:
                memcpy(value, &row->def_f64, sizeof(row->def_f64));
                return 0;
        case SETTINGS_STR:
                return settings_text_set(value, row->def_text, SETTINGS_TEXT_MAX);
        case SETTINGS_STRS:
                return strs_default(value, row->def_list);
        case SETTINGS_SECTION:
        case SETTINGS_ENDPOINT:
        case SETTINGS_WORKERS:
        case SETTINGS_MODELS:
                return 0;
        }
        return -EINVAL;
}

int settings_shape_default(const struct settings_shape *shape, void *base) {
        int r;

        memset(base, 0, shape->bytes);
        for (uint32_t i = 0; i < shape->n_rows; i++) {
                r = row_default(&shape->rows[i], (char *)base + shape->rows[i].offset);
                if (r) {
                        settings_shape_clear(shape, base);
                        return r;
                }
        }
        return 0;
}

/* The answer of last resort: it needs no backend, so that a daemon without a file is of use. */
static int default_route(struct settings *s) {
        static const char *const workers[] = {"local", NULL};
        struct settings_worker *worker;
        struct settings_model *model;
        int r;

        s->inference.workers.v = worker = calloc(1, sizeof(*worker));
        if (!worker)
                return -ENOMEM;
        s->inference.workers.n = 1;
        s->inference.models.v = model = calloc(1, sizeof(*model));
        if (!model)
                return -ENOMEM;
        s->inference.models.n = 1;
        r = settings_shape_default(&settings_worker_shape, worker);
        if (r)
                return r;
        r = settings_text_set(&worker->name, "local", SETTINGS_TEXT_MAX);
        if (r)
                return r;
        worker->kind = SETTINGS_WORKER_EXTRACT;
        r = settings_text_set(&model->name, "*", SETTINGS_TEXT_MAX);
        if (r)
                return r;
        return strs_default(&model->workers, workers);
}

int settings_default(struct settings **ret) {
        __attribute__((cleanup(settings_freep))) struct settings *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        r = settings_shape_default(&settings_shape, s);
        if (r)
                return r;
        r = default_route(s);
        if (r)
                return r;
        *ret = s;
        s = NULL;
        return 0;
}

/* ---- compare, look up -------------------------------------------------------------------- */

static bool text_equal(const char *a, const char *b) {
        return a == b || (a && b && strcmp(a, b) == 0);
}

static bool strs_equal(const struct settings_strs *a, const struct settings_strs *b) {
        if (a->n != b->n)
                return false;
        for (uint32_t i = 0; i < a->n; i++)
                if (!text_equal(a->v[i], b->v[i]))
                        return false;
        return true;
}

static bool shape_equal(const struct settings_shape *shape, const void *a, const void *b) {
        for (uint32_t i = 0; i < shape->n_rows; i++)
                if (!settings_row_equal(&shape->rows[i], a, b))
                        return false;
        return true;
}

static bool elements_equal(const struct settings_shape *shape, struct settings_elements a,
                           struct settings_elements b) {
        if (a.n != b.n)
                return false;
        for (uint32_t i = 0; i < a.n; i++)
                if (!shape_equal(shape, settings_element(shape, a, i),
                                 settings_element(shape, b, i)))
                        return false;
        return true;
}

bool settings_row_equal(const struct settings_row *row, const void *a, const void *b) {
        const void *x = settings_row_value(row, a), *y = settings_row_value(row, b);
        const void *p, *q; /* what two endpoints point to */

        switch (row->type) {
        case SETTINGS_SECTION:
                return true;
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
        case SETTINGS_BOOL:
        case SETTINGS_ENUM:
                return settings_number(row, x) == settings_number(row, y);
        case SETTINGS_F64:
                return memcmp(x, y, sizeof(double)) == 0;
        case SETTINGS_STR:
                return text_equal(settings_text(x), settings_text(y));
        case SETTINGS_STRS:
                return strs_equal(x, y);
        case SETTINGS_ENDPOINT:
                p = settings_pointer(x);
                q = settings_pointer(y);
                return p == q || (p && q && shape_equal(&settings_endpoint_shape, p, q));
        case SETTINGS_WORKERS:
        case SETTINGS_MODELS:
                return elements_equal(settings_row_shape(row), settings_elements(x),
                                      settings_elements(y));
        }
        return false;
}

const struct settings_worker *settings_worker_find(const struct settings *s, const char *name) {
        for (uint32_t i = 0; i < s->inference.workers.n; i++)
                if (text_equal(s->inference.workers.v[i].name, name))
                        return &s->inference.workers.v[i];
        return NULL;
}
