/*
 * remote -- a service that makes vectors of texts, or scores them, asked over HTTP.
 *
 * Shape   one request at a time, blocking: for a command, or for a thread of its own; the connection
 *         stays open between requests
 * Units   milliseconds, bytes
 * Owner   a struct remote belongs to one thread; what its configuration points to outlives it.
 *         remote_begin() comes before any thread
 * Errors  0, -ENOMEM, or REMOTE_E_* with a sentence in *err
 * Limits  REMOTE_TEXTS_MAX texts a request, REMOTE_TEXT_BYTES of each, answers of
 *         REMOTE_ANSWER_MAX bytes; redirects are not followed
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/engines/index/index.h"

#define REMOTE_TEXTS_MAX 128u
#define REMOTE_TEXT_BYTES 8192u
#define REMOTE_ANSWER_MAX (64u << 20)

enum {
        REMOTE_E_TIMEOUT = 1, /* no answer in time */
        REMOTE_E_BUSY,        /* unreachable, given up, or an answer that says later: another try may
                                 help */
        REMOTE_E_REFUSED,     /* it says no, or something that makes no sense */
};

enum remote_kind { REMOTE_EMBEDDINGS, REMOTE_RERANK };

struct remote_conf {
        const char *url;    /* whole, or up to the word that tells the kind, which is added */
        const char *model;  /* NULL: none is named */
        const char *header; /* "Authorization: ..." or NULL */
        uint64_t timeout_ms;
        /* Asked about once a second while it waits; false: it gives up. NULL: it does not. */
        bool (*go_on)(void *ctx);
        void *ctx;
};

struct remote;

/* 0, or -EIO: curl cannot be used. */
int remote_begin(void);
int remote_new(enum remote_kind kind, const struct remote_conf *conf, struct remote **ret_remote);
struct remote *remote_free(struct remote *remote);

/* timeout_ms bounds the configured time further; 0 does not. A vector for each text, one behind the
 * other, to be freed. */
int remote_vectors(struct remote *remote, const struct index_str *texts, uint32_t n,
                uint64_t timeout_ms, struct index_error *err, uint32_t *ret_dimension,
                float **ret_vectors);
/* A score for each text: how well it answers the question; -INFINITY where the service has none. */
int remote_scores(struct remote *remote, struct index_str question, const struct index_str *texts,
                uint32_t n, uint64_t timeout_ms, struct index_error *err, double *ret_scores);
