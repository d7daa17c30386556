/*
 * index_cmd -- what the parts of `millrace index` share.
 *
 * Shape   index.c reads the options and has the short verbs; index_add.c and index_search.c the
 *         others
 * Owner   strings point into argv
 * Errors  the verbs return the command's exit code, and have said why on stderr
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <yajl/yajl_gen.h>

#include "cli/cli.h"
#include "stages/common/settings.h"
#include "stages/engines/index/index.h"
#include "stages/engines/vectors/remote.h"

#define INDEX_CMD_NAMES 16u /* collections, and pairs of metadata, of one command */

struct index_options {
        const char *path;     /* of the index */
        const char *queries;  /* a file, or NULL */
        const char *language; /* NULL: the index's own */
        const char *config;   /* a file of settings: its services are used; NULL: none */
        struct index_str tenant;
        bool tenant_given;
        struct index_str collections[INDEX_CMD_NAMES];
        uint32_t n_collections;
        struct index_pair pairs[INDEX_CMD_NAMES]; /* search: to be had; add: to be given */
        uint32_t n_pairs;
        bool filters, meta; /* which of the two was said */
        uint32_t k;
        bool json;
        bool expand;
        const struct index_services *services;
        char *const *args; /* behind the verb */
        int n_args;
};

int index_cmd_add(const struct index_options *options);
int index_cmd_search(const struct index_options *options);

/* Has SIGINT come since `add` began? */
bool index_interrupted(void);
/* Says why an index could not be used, and what to do about it. */
int index_complain_of(const char *path, int code, const struct index_error *err);
/* Waits a few seconds for another writer to finish. 0 or as index_writer_open(). */
int index_cmd_writer(const struct index_options *options, struct index_error *err,
                struct index_writer **ret_writer);
/* The document of this id, in the collection and of the tenant that were named. */
struct index_key index_cmd_key(const struct index_options *options, struct index_str id);

/* What the configuration says of retrieval; all NULL without one. */
struct index_services {
        struct settings *settings;
        char *headers[2]; /* by enum remote_kind */
        struct remote_conf confs[2];
        const struct remote_conf *embeddings;
        const struct remote_conf *rerank;
        enum index_fusion fusion;
};

/* CLI_DONE, or the exit code: it has said why. */
int index_services_open(const char *config, struct index_services *ret_services);
void index_services_close(struct index_services *services);

/* Are the index's vectors of the model that is configured? CLI_DONE, or it has said why not. */
int index_vectors_check(const struct index_options *options);
/* Vectors for all passages that have none, where a service is configured; those of passages that are
 * gone go. *ret_n: how many there are then. CLI_DONE, or it has said why not. */
int index_vectors_update(const struct index_options *options, uint64_t *ret_n);

/* Prints the object that was generated as one line, flushed, and starts over. */
void index_print_json(yajl_gen gen);
void index_gen_key(yajl_gen gen, const char *key);
void index_gen_str(yajl_gen gen, const char *key, struct index_str value);
void index_gen_u64(yajl_gen gen, const char *key, uint64_t value);
/* For people: control characters, which could drive a terminal, become blanks, runs of blanks one.
 */
void index_print_plain(FILE *to, struct index_str text);
