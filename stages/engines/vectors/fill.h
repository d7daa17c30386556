/*
 * fill -- vectors for the passages of an index: what has one keeps it, what has none gets one, what
 * is gone loses it.
 *
 * Shape   one call, which asks the service in batches. The file is saved on the way too, so that who
 *         is killed or loses the service leaves what was made, and the next call goes on from there
 * Units   passages
 * Owner   the caller's thread; one at a time for an index, in any process
 * Errors  0, -errno, or FILL_E_* with a sentence in *err
 * Limits  those of remote.h and vectors.h; each batch is tried FILL_ATTEMPTS times
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stages/engines/index/index.h"
#include "stages/engines/vectors/remote.h"

#define FILL_ATTEMPTS 4

enum {
        FILL_E_LOCKED = 1, /* another process is making them */
        FILL_E_STOPPED,    /* by step() */
        FILL_E_UNFIT,      /* the file is damaged, or of another model: the sentence has the remedy */
        FILL_E_FAILED,     /* the index or the service: the sentence says what */
};

struct fill_conf {
        const char *folder;                   /* of the index */
        const struct remote_conf *embeddings; /* NULL: nobody is asked, vectors only go */
        /* After each batch, and about once a second while the service lets us wait; false: it ends
         * there, with what there is. NULL: it does not. */
        bool (*step)(void *ctx, size_t n_done, size_t n_todo);
        void *ctx;
};

/* What it came to, also after an error. */
struct fill_result {
        uint64_t n;     /* vectors that there are */
        size_t n_todo;  /* passages that had none */
        size_t n_done;  /* of these, those that have one now */
        bool had_file;
};

int vectors_fill(const struct fill_conf *conf, struct index_error *err, struct fill_result *ret);
/* Would it do, by what the file says? No file does. 0, -errno or FILL_E_UNFIT. */
int vectors_fill_check(const char *folder, const struct remote_conf *embeddings,
                struct index_error *err);
