/*
 * hybrid -- one question to the whole of retrieval: words, meaning, and a second look at what was
 * found.
 *
 * Shape   a reader of the index, its vectors, and the services that are configured; without any
 *         of these it is a reader alone
 * Units   as index.h
 * Owner   a struct hybrid belongs to one thread; its configuration outlives it
 * Errors  as index_reader_query(): what goes wrong with vectors or services never fails a search, it
 *         is told to `told` and done without
 * Limits  the first HYBRID_RERANK_N hits get the second look; a service may take half of what is left
 *         until the deadline
 */
#pragma once

#include <stdbool.h>

#include "stages/engines/index/index.h"
#include "stages/engines/vectors/remote.h"

#define HYBRID_RERANK_N 30u

enum hybrid_outcome {
        HYBRID_WORKED,
        HYBRID_TIMEOUT, /* the service was too slow */
        HYBRID_FAILED,  /* it did something else than answer */
        HYBRID_UNFIT,   /* no fault of a service's: no vectors, or those of another model */
};

struct hybrid_conf {
        const char *folder;
        const struct remote_conf *embeddings; /* NULL: by words alone */
        const struct remote_conf *rerank;     /* NULL: in the order that they were found in */
        enum index_fusion fusion;
        /* May the service be asked now? NULL: always. Every true is followed by told(). */
        bool (*may)(void *ctx, enum remote_kind kind);
        void (*told)(void *ctx, enum remote_kind kind, enum hybrid_outcome outcome,
                        const char *why);
        void *ctx;
};

struct hybrid;

/* Opens nothing yet. */
int hybrid_new(const struct hybrid_conf *conf, struct hybrid **ret_hybrid);
struct hybrid *hybrid_free(struct hybrid *hybrid);
/* Opens the index now rather than with the first question. */
int hybrid_open(struct hybrid *hybrid, struct index_error *err);
int hybrid_run(struct hybrid *hybrid, const struct index_query *query, struct index_error *err,
                struct index_result **ret_result);
