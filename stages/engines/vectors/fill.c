#include "stages/engines/vectors/fill.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stages/engines/index/buffer.h"
#include "stages/engines/vectors/vectors.h"

#define BATCH 32u
#define STOP 1000 /* no code of the index */
#define BATCH_TIMEOUT_MS 60000u /* many texts take a service longer than one question */
#define PAUSE_MS 250u /* before the second attempt; twice as long before each later one */
#define SAVE_EVERY_S 15

struct todo {
        uint32_t passage;
        uint64_t hash;
};

struct fill {
        const struct fill_conf *conf;
        struct index_error *err;
        struct fill_result *result;
        struct index_reader *reader;
        struct vectors *old; /* NULL: there were none */
        struct vectors_table *table;
        struct remote *remote;
        struct remote_conf remote_conf;
        struct buffer todo;
        uint32_t n_kept;
        struct buffer texts[BATCH];
        uint64_t saved_ns;
};

static uint64_t now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static const char *model_of(const struct remote_conf *embeddings) {
        return embeddings && embeddings->model ? embeddings->model : "";
}

int vectors_fill_check(const char *folder, const struct remote_conf *embeddings,
                struct index_error *err) {
        struct index_error why = {0};
        struct vectors *old = NULL;
        int r = vectors_open(folder, &why, &old);

        bool fits;

        if (r == -ENOENT || r == -ENOTDIR || r == VECTORS_E_MISSING)
                return 0;
        if (r != 0) {
                snprintf(err->text, sizeof(err->text),
                                "%.300s; remove " VECTORS_FILE " from the index and add again",
                                why.text);
                return FILL_E_UNFIT;
        }
        fits = !embeddings || strcmp(vectors_model(old), model_of(embeddings)) == 0;
        if (!fits)
                snprintf(err->text, sizeof(err->text),
                                "its vectors are of the model \"%.100s\", and rag.embeddings names "
                                "\"%.100s\"; the two cannot be compared: remove " VECTORS_FILE
                                " from the index and add again to have all of them made anew",
                                vectors_model(old), model_of(embeddings));
        vectors_close(old);
        return fits ? 0 : FILL_E_UNFIT;
}

/* ---- what is to be done ---------------------------------------------------------------------- */

static int take_passage(uint32_t passage, const struct index_hit *hit, void *ctx) {
        struct fill *f = ctx;
        const struct todo todo = {passage, index_passage_hash(hit)};
        const int64_t row = f->old ? vectors_find(f->old, passage, todo.hash) : -1;

        if (row >= 0) {
                f->n_kept++;
                return vectors_table_copy(f->table, f->old, (uint32_t)row);
        }
        f->result->n_todo++;
        return buffer_append(&f->todo, (const char *)&todo, sizeof(todo));
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

static bool go_on(void *ctx) {
        const struct fill *f = ctx;

        return !f->conf->step ||
               f->conf->step(f->conf->ctx, f->result->n_done, f->result->n_todo);
}

static int ask_often(struct fill *f, const struct index_str *texts, uint32_t n,
                uint32_t *ret_dimension, float **ret_vectors) {
        uint64_t pause_ms = PAUSE_MS;
        int r = 0;

        for (int i = 0; i < FILL_ATTEMPTS; i++) {
                const struct timespec pause = {.tv_sec = (time_t)(pause_ms / 1000),
                                .tv_nsec = (long)(pause_ms % 1000) * 1000000};

                r = remote_vectors(f->remote, texts, n, 0, f->err, ret_dimension, ret_vectors);
                if (r != REMOTE_E_BUSY && r != REMOTE_E_TIMEOUT)
                        return r;
                if (!go_on(f))
                        return STOP;
                if (i + 1 < FILL_ATTEMPTS)
                        nanosleep(&pause, NULL);
                pause_ms *= 2;
        }
        return r;
}

static int table_for(struct fill *f, uint32_t dimension) {
        const uint32_t have = f->old ? vectors_dimension(f->old) : dimension;

        if (have != dimension) {
                snprintf(f->err->text, sizeof(f->err->text),
                                "it gives vectors of %u numbers, and those of the index have %u; the "
                                "two cannot be compared: remove " VECTORS_FILE
                                " from the index and add again to have all of them made anew",
                                dimension, have);
                return REMOTE_E_REFUSED;
        }
        return f->table ? 0
                        : vectors_table_new(model_of(f->conf->embeddings), dimension, &f->table);
}

static int one_batch(struct fill *f, const struct todo *todo, uint32_t n) {
        struct index_str texts[BATCH];
        uint32_t dimension = 0;
        float *vectors = NULL;
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < n; i++) {
                f->texts[i].n_bytes = 0;
                r = index_reader_passages(f->reader, todo[i].passage, keep_text, &f->texts[i],
                                f->err);
                r = r == STOP ? 0 : r;
                texts[i] = (struct index_str){f->texts[i].data, f->texts[i].n_bytes};
        }
        if (r == 0)
                r = ask_often(f, texts, n, &dimension, &vectors);
        if (r == 0)
                r = table_for(f, dimension);
        for (uint32_t i = 0; r == 0 && i < n; i++)
                r = vectors_table_add(f->table, todo[i].passage, todo[i].hash,
                                vectors + (size_t)i * dimension);
        free(vectors);
        return r;
}

static int save(struct fill *f) {
        f->saved_ns = now_ns();
        return f->table ? vectors_table_save(f->table, f->conf->folder, f->err) : 0;
}

static int ask_all(struct fill *f) {
        const struct todo *todo = (const struct todo *)(void *)f->todo.data;
        struct fill_result *result = f->result;
        int r = 0;

        f->saved_ns = now_ns();
        while (r == 0 && result->n_done < result->n_todo) {
                const size_t left = result->n_todo - result->n_done;
                const uint32_t n = left < BATCH ? (uint32_t)left : BATCH;

                r = one_batch(f, todo + result->n_done, n);
                if (r == 0)
                        result->n_done += n;
                if (r == 0 && now_ns() - f->saved_ns > (uint64_t)SAVE_EVERY_S * 1000000000u)
                        r = save(f);
                if (r == 0 && !go_on(f))
                        r = STOP;
        }
        return r;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int prepare(struct fill *f) {
        int r = vectors_open(f->conf->folder, f->err, &f->old);

        f->result->had_file = r == 0;
        if (r == 0)
                r = vectors_table_new(vectors_model(f->old), vectors_dimension(f->old), &f->table);
        else if (r == VECTORS_E_MISSING)
                r = 0;
        if (r == 0)
                r = index_reader_open(f->conf->folder, f->err, &f->reader);
        if (r == INDEX_E_MISSING)
                return STOP;
        return r == 0 ? index_reader_passages(f->reader, 0, take_passage, f, f->err) : r;
}

static int run(struct fill *f) {
        int r = prepare(f);
        int saved = 0;

        if (r == STOP && !f->reader)
                return 0;
        if (r == 0 && f->result->n_todo > 0 && f->conf->embeddings) {
                f->remote_conf = *f->conf->embeddings;
                f->remote_conf.timeout_ms = BATCH_TIMEOUT_MS;
                f->remote_conf.go_on = go_on;
                f->remote_conf.ctx = f;
                r = remote_new(REMOTE_EMBEDDINGS, &f->remote_conf, &f->remote);
                if (r == 0)
                        r = ask_all(f);
        }
        if (f->reader && (f->result->n_done > 0 || (f->old && f->n_kept != vectors_n(f->old))))
                saved = save(f);
        f->result->n = f->n_kept + f->result->n_done;
        return r != 0 ? r : saved;
}

int vectors_fill(const struct fill_conf *conf, struct index_error *err, struct fill_result *ret) {
        struct fill f = {.conf = conf, .err = err, .result = ret};
        int lock = -1;
        int r = vectors_lock(conf->folder, &lock);

        *ret = (struct fill_result){0};
        err->text[0] = '\0';
        if (r == -ENOENT)
                return 0;
        if (r != 0)
                return r < 0 ? r : FILL_E_LOCKED;
        r = vectors_fill_check(conf->folder, conf->embeddings, err);
        if (r == 0) {
                r = run(&f);
                if (r == STOP)
                        r = FILL_E_STOPPED;
                else if (r > 0)
                        r = FILL_E_FAILED;
        }
        close(lock);
        for (uint32_t i = 0; i < BATCH; i++)
                buffer_clear(&f.texts[i]);
        buffer_clear(&f.todo);
        vectors_close(f.old);
        vectors_table_free(f.table);
        index_reader_free(f.reader);
        remote_free(f.remote);
        return r;
}
