/*
 * index_vectors -- vectors for the passages of an index, as the commands make them: with a bar, and
 * with words for what goes wrong.
 */
#include "cli/index_cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stages/engines/vectors/fill.h"

#define LOCK_TRIES 25
#define LOCK_PAUSE_NS 200000000L
#define BAR_EVERY_NS 100000000u

struct bar {
        uint64_t started_ns;
        uint64_t drawn_ns; /* 0: never */
        bool shown;
};

static uint64_t now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool bar_step(void *ctx, size_t n_done, size_t n_todo) {
        struct bar *bar = ctx;
        const uint64_t now = bar->shown ? now_ns() : 0;
        const double seconds = (double)(now - bar->started_ns) / 1e9;
        const double rate = seconds > 0 ? (double)n_done / seconds : 0;
        const uint64_t eta = rate > 0 ? (uint64_t)((double)(n_todo - n_done) / rate + 0.5) : 0;

        if (!bar->shown || now - bar->drawn_ns < BAR_EVERY_NS)
                return !index_interrupted();
        bar->drawn_ns = now;
        fprintf(stderr, "\r\033[Kvectors %zu of %zu  %3d %%  %.0f/s  ETA %" PRIu64 ":%02" PRIu64,
                        n_done, n_todo, (int)(100 * n_done / n_todo), rate, eta / 60, eta % 60);
        fflush(stderr);
        return !index_interrupted();
}

int index_vectors_check(const struct index_options *options) {
        struct index_error err = {0};
        int r = vectors_fill_check(options->path, options->services->embeddings, &err);

        if (r != 0)
                cli_error("index", "%s: %s", options->path, err.text);
        return r == 0 ? CLI_DONE : CLI_FAILED;
}

static int complain(const struct index_options *options, int r, const struct index_error *err,
                const struct fill_result *result) {
        const char *why = err->text[0] ? err->text : r < 0 ? strerror(-r) : "it does not work";

        if (r == FILL_E_STOPPED)
                why = "interrupted";
        else if (r == FILL_E_LOCKED)
                why = "another command is making its vectors: add again later";
        if (result->n_todo > 0)
                cli_error("index", "rag.embeddings: %s; %zu of %zu passages got their vectors: the "
                                   "others are found by their words alone until you add again",
                                why, result->n_done, result->n_todo);
        else
                cli_error("index", "%s: %s", options->path, why);
        return CLI_FAILED;
}

int index_vectors_update(const struct index_options *options, uint64_t *ret_n) {
        const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
        struct bar bar = {.started_ns = now_ns(), .shown = isatty(STDERR_FILENO) == 1};
        const struct fill_conf conf = {.folder = options->path,
                        .embeddings = options->services->embeddings,
                        .step = bar_step,
                        .ctx = &bar};
        struct fill_result result = {0};
        struct index_error err = {0};
        int r = vectors_fill(&conf, &err, &result);

        for (int i = 0; r == FILL_E_LOCKED && i < LOCK_TRIES; i++) {
                nanosleep(&pause, NULL);
                r = vectors_fill(&conf, &err, &result);
        }
        if (bar.drawn_ns > 0)
                fputs("\r\033[K", stderr);
        *ret_n = result.n;
        if (r != 0)
                return complain(options, r, &err, &result);
        if (result.n_done < result.n_todo && result.had_file)
                cli_error("index",
                                "%zu passages have no vectors, and are found by their words alone: "
                                "add again with -c FILE",
                                result.n_todo - result.n_done);
        return CLI_DONE;
}
