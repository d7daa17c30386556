/*
 * index_vectors -- vectors for the passages of an index: what has one keeps it, what has none gets
 * one, what is gone loses it.
 *
 * The file is saved on the way too, so that a command that is killed or loses its service leaves what
 * it had made, and the next one goes on from there.
 */
#include "cli/index_cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stages/engines/index/buffer.h"
#include "stages/engines/vectors/vectors.h"

#define BATCH 32u
#define STOP 1000 /* no code of the index */
#define BATCH_TIMEOUT_MS 60000u /* many texts take a service longer than one question */
#define ATTEMPTS 4
#define PAUSE_MS 250u /* before the second attempt; twice as long before each later one */
#define SAVE_EVERY_S 15
#define BAR_EVERY_NS 100000000u

struct todo {
        uint32_t passage;
        uint64_t hash;
};

struct update {
        const struct index_options *options;
        struct index_reader *reader;
        struct vectors *old; /* NULL: there were none */
        struct vectors_table *table;
        struct remote *remote;
        struct remote_conf conf;
        struct buffer todo;
        size_t n_todo;
        uint32_t n_kept;
        struct buffer texts[BATCH];
        struct index_error err;
        uint64_t started_ns;
        uint64_t drawn_ns;
        uint64_t saved_ns;
        bool bar;
};

static uint64_t now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static const char *model_of(const struct index_options *options) {
        const struct remote_conf *conf = options->services->embeddings;

        return conf && conf->model ? conf->model : "";
}

static int refuse_model(const struct index_options *options, const struct vectors *old) {
        cli_error("index",
                        "%s: its vectors are of the model \"%s\", and rag.embeddings names \"%s\"; "
                        "the two cannot be compared: remove %s/" VECTORS_FILE
                        " and add again to have all of them made anew",
                        options->path, vectors_model(old), model_of(options), options->path);
        return CLI_FAILED;
}

int index_vectors_check(const struct index_options *options) {
        struct index_error err = {0};
        struct vectors *old = NULL;
        int r = vectors_open(options->path, &err, &old);
        int code = CLI_DONE;

        if (r == -ENOENT || r == -ENOTDIR || r == VECTORS_E_MISSING)
                return CLI_DONE;
        if (r != 0) {
                cli_error("index", "%s: %s; remove %s/" VECTORS_FILE " and add again", options->path,
                                err.text, options->path);
                return CLI_FAILED;
        }
        if (options->services->embeddings && strcmp(vectors_model(old), model_of(options)) != 0)
                code = refuse_model(options, old);
        vectors_close(old);
        return code;
}

/* ---- what is to be done ---------------------------------------------------------------------- */

static int take_passage(uint32_t passage, const struct index_hit *hit, void *ctx) {
        struct update *u = ctx;
        const struct todo todo = {passage, index_passage_hash(hit)};
        const int64_t row = u->old ? vectors_find(u->old, passage, todo.hash) : -1;

        if (row >= 0) {
                u->n_kept++;
                return vectors_table_copy(u->table, u->old, (uint32_t)row);
        }
        u->n_todo++;
        return buffer_append(&u->todo, (const char *)&todo, sizeof(todo));
}

static int keep_text(uint32_t passage, const struct index_hit *hit, void *ctx) {
        struct buffer *text = ctx;
        const struct index_str parts[] = {hit->title, hit->path, hit->text};
        int r = 0;

        (void)passage;
        for (size_t i = 0; r == 0 && i < sizeof(parts) / sizeof(*parts); i++) {
                if (parts[i].n_bytes > 0 && text->n_bytes > 0)
                        r = buffer_append(text, "\n", 1);
                if (r == 0)
                        r = buffer_append(text, parts[i].data, parts[i].n_bytes);
        }
        return r != 0 ? r : STOP; /* this one only */
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void bar_draw(struct update *u, size_t n_done) {
        const uint64_t now = u->bar ? now_ns() : 0;
        const double seconds = (double)(now - u->started_ns) / 1e9;
        const double rate = seconds > 0 ? (double)n_done / seconds : 0;
        const uint64_t eta = rate > 0 ? (uint64_t)((double)(u->n_todo - n_done) / rate + 0.5) : 0;

        if (!u->bar || now - u->drawn_ns < BAR_EVERY_NS)
                return;
        u->drawn_ns = now;
        fprintf(stderr, "\r\033[Kvectors %zu of %zu  %3d %%  %.0f/s  ETA %" PRIu64 ":%02" PRIu64, n_done,
                        u->n_todo, (int)(100 * n_done / u->n_todo), rate, eta / 60, eta % 60);
        fflush(stderr);
}

static int ask_often(struct update *u, const struct index_str *texts, uint32_t n,
                uint32_t *ret_dimension, float **ret_vectors) {
        uint64_t pause_ms = PAUSE_MS;
        int r = 0;

        for (int i = 0; i < ATTEMPTS; i++) {
                const struct timespec pause = {.tv_sec = (time_t)(pause_ms / 1000),
                                .tv_nsec = (long)(pause_ms % 1000) * 1000000};

                r = remote_vectors(u->remote, texts, n, 0, &u->err, ret_dimension, ret_vectors);
                if (r != REMOTE_E_BUSY && r != REMOTE_E_TIMEOUT)
                        return r;
                if (i + 1 < ATTEMPTS)
                        nanosleep(&pause, NULL);
                pause_ms *= 2;
        }
        return r;
}

static int table_for(struct update *u, uint32_t dimension) {
        const uint32_t have = u->old ? vectors_dimension(u->old) : dimension;

        if (have != dimension) {
                snprintf(u->err.text, sizeof(u->err.text),
                                "it gives vectors of %u numbers, and those of the index have %u; the "
                                "two cannot be compared: remove " VECTORS_FILE
                                " from the index and add again to have all of them made anew",
                                dimension, have);
                return REMOTE_E_REFUSED;
        }
        return u->table ? 0 : vectors_table_new(model_of(u->options), dimension, &u->table);
}

static int one_batch(struct update *u, const struct todo *todo, uint32_t n) {
        struct index_str texts[BATCH];
        uint32_t dimension = 0;
        float *vectors = NULL;
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < n; i++) {
                u->texts[i].n_bytes = 0;
                r = index_reader_passages(u->reader, todo[i].passage, keep_text, &u->texts[i],
                                &u->err);
                r = r == STOP ? 0 : r;
                texts[i] = (struct index_str){u->texts[i].data, u->texts[i].n_bytes};
        }
        if (r == 0)
                r = ask_often(u, texts, n, &dimension, &vectors);
        if (r == 0)
                r = table_for(u, dimension);
        for (uint32_t i = 0; r == 0 && i < n; i++)
                r = vectors_table_add(u->table, todo[i].passage, todo[i].hash,
                                vectors + (size_t)i * dimension);
        free(vectors);
        return r;
}

static int save(struct update *u) {
        u->saved_ns = now_ns();
        return u->table ? vectors_table_save(u->table, u->options->path, &u->err) : 0;
}

/* *ret_done: passages that have theirs, also where it ends before all have. */
static int ask_all(struct update *u, size_t *ret_done) {
        const struct todo *todo = (const struct todo *)(void *)u->todo.data;
        size_t done = 0;
        int r = 0;

        u->started_ns = u->saved_ns = now_ns();
        while (r == 0 && done < u->n_todo) {
                const size_t left = u->n_todo - done;
                const uint32_t n = left < BATCH ? (uint32_t)left : BATCH;

                r = one_batch(u, todo + done, n);
                if (r == 0)
                        done += n;
                if (r == 0 && now_ns() - u->saved_ns > (uint64_t)SAVE_EVERY_S * 1000000000u)
                        r = save(u);
                bar_draw(u, done);
        }
        if (u->bar && u->drawn_ns > 0)
                fputs("\r\033[K", stderr);
        *ret_done = done;
        return r;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int prepare(struct update *u) {
        int r = vectors_open(u->options->path, &u->err, &u->old);

        if (r == 0)
                r = vectors_table_new(vectors_model(u->old), vectors_dimension(u->old), &u->table);
        else if (r == VECTORS_E_MISSING)
                r = 0;
        if (r == 0)
                r = index_reader_open(u->options->path, &u->err, &u->reader);
        if (r == 0)
                r = index_reader_passages(u->reader, 0, take_passage, u, &u->err);
        return r;
}

static int complain(struct update *u, int r, size_t n_done) {
        const char *why = u->err.text[0] ? u->err.text : r < 0 ? strerror(-r) : "it does not work";

        if (u->n_todo > 0)
                cli_error("index", "rag.embeddings: %s; %zu of %zu passages got their vectors: the "
                                   "others are found by their words alone until you add again",
                                why, n_done, u->n_todo);
        else
                cli_error("index", "%s: %s", u->options->path, why);
        return CLI_FAILED;
}

static int run(struct update *u, uint64_t *ret_n) {
        size_t n_done = 0;
        int r = prepare(u);
        int saved;

        if (r == INDEX_E_MISSING && !u->reader)
                return CLI_DONE;
        if (r == 0 && u->n_todo > 0 && u->options->services->embeddings) {
                u->conf = *u->options->services->embeddings;
                u->conf.timeout_ms = BATCH_TIMEOUT_MS;
                r = remote_new(REMOTE_EMBEDDINGS, &u->conf, &u->remote);
                if (r == 0)
                        r = ask_all(u, &n_done);
        }
        saved = u->reader && (n_done > 0 || (u->old && u->n_kept != vectors_n(u->old))) ? save(u)
                                                                                      : 0;
        *ret_n = u->n_kept + n_done;
        if (r != 0 || saved != 0)
                return complain(u, r != 0 ? r : saved, n_done);
        if (n_done < u->n_todo && u->old)
                cli_error("index",
                                "%zu passages have no vectors, and are found by their words alone: "
                                "add again with -c FILE",
                                u->n_todo - n_done);
        return CLI_DONE;
}

int index_vectors_update(const struct index_options *options, uint64_t *ret_n) {
        struct update u = {.options = options, .bar = isatty(STDERR_FILENO) == 1};
        int lock = -1;
        int r = vectors_lock(options->path, &lock);
        int code;

        if (r == -ENOENT)
                return CLI_DONE;
        if (r != 0) {
                cli_error("index", "%s: %s", options->path,
                                r < 0 ? strerror(-r)
                                      : "another command is making its vectors: add again later");
                return CLI_FAILED;
        }
        code = run(&u, ret_n);
        close(lock);
        for (uint32_t i = 0; i < BATCH; i++)
                buffer_clear(&u.texts[i]);
        buffer_clear(&u.todo);
        vectors_close(u.old);
        vectors_table_free(u.table);
        index_reader_free(u.reader);
        remote_free(u.remote);
        return code;
}
