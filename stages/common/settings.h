/*
 * settings -- what the operator has decided, as every process of the daemon reads it.
 *
 * Shape   struct settings and its rows, both made from settings.def; a packed form that travels
 *         from the supervisor to a worker: one msgpack map, key path -> value
 * Units   in the names of the members; an AUTO row is 0 for "auto"
 * Owner   whoever called settings_default(), settings_unpack() or config_load() frees the whole
 *         with settings_free(); the rows are constant and belong to nobody
 * Errors  0 or -errno; settings_unpack() gives -EPROTO for what settings_pack() never writes
 * Limits  SETTINGS_PACKED_MAX bytes packed, SETTINGS_WORKERS_MAX workers, SETTINGS_MODELS_MAX
 *         models, SETTINGS_TEXT_MAX bytes for one text; only start and reload come through here
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SETTINGS_PACKED_MAX (128U * 1024)
#define SETTINGS_WORKERS_MAX 256U
#define SETTINGS_MODELS_MAX 1024U
#define SETTINGS_TEXT_MAX 4096U
#define SETTINGS_AUTO 0U

/* ---- words ------------------------------------------------------------------------------- */

/* enum settings_pin { SETTINGS_PIN_LANE, ... } and so on. */
#define CHOICES(type, list) enum settings_##type { list };
#define CHOICE(id, word) SETTINGS_##id,
#define SETTINGS_PART_CHOICES
#include "stages/common/settings.def" /* IWYU pragma: keep */

/* ---- values ------------------------------------------------------------------------------ */

struct settings_strs {
        char **v;
        uint32_t n;
};

#define SECTION(path, member, sentence) struct {
#define SECTION_END(path, member) } member;
#define U64(path, member, ...) uint64_t member;
#define AUTO(path, member, ...) uint64_t member;
#define F64(path, member, ...) double member;
#define BOOL(path, member, ...) bool member;
#define ENUM(path, member, choices, ...) enum settings_##choices member;
#define STR_AS(path, member, ...) char *member;
#define STRS(path, member, ...) struct settings_strs member;
#define ENDPOINT(path, member, ...) struct settings_endpoint *member;
#define WORKERS(path, member, ...) struct settings_workers member;
#define MODELS(path, member, ...) struct settings_models member;

/* One of inference.workers. */
struct settings_worker {
#define SETTINGS_PART_WORKER
#include "stages/common/settings.def"
};

struct settings_workers {
        struct settings_worker *v;
        uint32_t n;
};

/* One public name of inference.models. */
struct settings_model {
#define SETTINGS_PART_MODEL
#include "stages/common/settings.def"
};

struct settings_models {
        struct settings_model *v;
        uint32_t n;
};

/* rag.embeddings and rag.rerank; the pointer is NULL where the file says null. */
struct settings_endpoint {
#define SETTINGS_PART_ENDPOINT
#include "stages/common/settings.def"
};

/* Texts are NULL where the file says null. */
struct settings {
#include "stages/common/settings.def"
};

#define SETTINGS_PART_END
#include "stages/common/settings.def"

/* ---- rows -------------------------------------------------------------------------------- */

enum settings_type {
        SETTINGS_SECTION, /* no value: the path and the sentence of what follows */
        SETTINGS_U64,
        SETTINGS_AUTO_U64, /* "auto" or a number */
        SETTINGS_F64,
        SETTINGS_BOOL,
        SETTINGS_ENUM,
        SETTINGS_STR,
        SETTINGS_STRS,
        SETTINGS_ENDPOINT, /* null or a map of settings_endpoint_shape */
        SETTINGS_WORKERS,  /* a list of settings_worker_shape */
        SETTINGS_MODELS,   /* a map in the file: name -> list of worker names; packed as a list */
};

/* What a text must look like; a text may be null where its row's default is. */
enum settings_form {
        SETTINGS_TEXT,        /* anything printable */
        SETTINGS_NAME,        /* letters, digits, _ - . */
        SETTINGS_PATH,        /* a path */
        SETTINGS_AUTO_PATH,   /* auto, none, or a path */
        SETTINGS_SOCKET,      /* a path that fits a Unix socket's address, its .ctl sibling too */
        SETTINGS_URL,         /* http://HOST[:PORT][/PATH] or https:// */
        SETTINGS_LISTEN,      /* HOST:PORT, [IPV6]:PORT or unix:PATH */
        SETTINGS_LISTEN_NONE, /* the same, or none */
        SETTINGS_CIDR,        /* ADDRESS or ADDRESS/BITS */
        SETTINGS_ENV,         /* the name of an environment variable */
        SETTINGS_ENTITY,      /* the name of an entity: capitals, digits and _; or core, or all */
        SETTINGS_PAIR,        /* KEY=VALUE */
};

enum settings_applies {
        SETTINGS_STAGE,   /* reload restarts those that read it */
        SETTINGS_RESTART, /* reload refuses a change */
};

/* Who reads a row: a reload restarts these. */
enum {
        AT_SUPERVISOR = 1 << 0,
        AT_GATEWAY = 1 << 1,
        AT_RAG = 1 << 2,
        AT_ASSEMBLE = 1 << 3,
        AT_INFERENCE = 1 << 4,
        AT_POST = 1 << 5,
        AT_STREAM = 1 << 6,
        AT_TELEMETRY = 1 << 7,
        AT_WATCH = 1 << 8,
        AT_ALL = (1 << 9) - 1,
};

struct settings_row {
        const char *path; /* as the file has it: "admission.queue" */
        enum settings_type type;
        enum settings_form form; /* SETTINGS_STR, SETTINGS_STRS */
        enum settings_applies applies;
        uint32_t at;     /* AT_* */
        uint32_t offset; /* of the value in the struct of its shape */
        uint32_t max_items;
        uint64_t def; /* U64, AUTO_U64, BOOL, ENUM */
        uint64_t min;
        uint64_t max;
        double def_f64;
        double min_f64;
        double max_f64;
        const char *def_text;
        const char *const *def_list;
        const char *const *choices; /* words in the order of the enum, then NULL */
        const char *unit;
        const char *sentence;
};

/* The rows of one struct, in the order of the file. */
struct settings_shape {
        const struct settings_row *rows;
        uint32_t n_rows;
        uint32_t n_required; /* so many of the first rows must be given */
        size_t bytes;        /* of one struct */
};

extern const struct settings_shape settings_shape;
extern const struct settings_shape settings_worker_shape;
extern const struct settings_shape settings_model_shape;
extern const struct settings_shape settings_endpoint_shape;

/* The row of a key path in a shape, or NULL. */
const struct settings_row *settings_row_find(const struct settings_shape *shape, const char *path);

/* Whether two structs of one shape agree in a row. */
bool settings_row_equal(const struct settings_row *row, const void *a, const void *b);

/* Where a row's value stands. */
static inline const void *settings_row_value(const struct settings_row *row, const void *base) {
        return (const char *)base + row->offset;
}

/* ---- whole settings ---------------------------------------------------------------------- */

/* What holds without any configuration: a worker "local" of kind extract for every model. */
int settings_default(struct settings **ret);

/* Fills one struct of a shape from its rows' defaults; what is required stays NULL. */
int settings_shape_default(const struct settings_shape *shape, void *base);

/* Frees what the struct holds, not the struct, and leaves it zeroed. */
void settings_shape_clear(const struct settings_shape *shape, void *base);

/* -ENOBUFS: more than cap bytes would be needed. */
int settings_pack(const struct settings *s, void *buf, size_t cap, size_t *ret_len);

/* Takes what settings_pack() wrote, also that of a version with fewer or more rows: a row that is
 * absent has its default, an unknown one is skipped. Every value is held against its row. */
int settings_unpack(const void *buf, size_t len, struct settings **ret);

/* The worker of that name, or NULL. */
const struct settings_worker *settings_worker_find(const struct settings *s, const char *name);

struct settings *settings_free(struct settings *s);

static inline void settings_freep(struct settings **s) {
        *s = settings_free(*s);
}
