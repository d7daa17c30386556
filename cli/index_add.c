/*
 * index_add -- `millrace index add`: documents go in, a bar shows how far.
 */
#include "cli/index_cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stages/engines/index/buffer.h"
#include "stages/engines/index/documents.h"
#include "stages/engines/index/metadata.h"

#define BAR_CELLS 24
#define BAR_EVERY_NS 100000000u

struct adding {
        const struct index_options *options;
        struct index_writer *writer; /* opened for the first document: bad input makes no index */
        struct index_error err;
        uint64_t n_outcomes[3]; /* by enum index_outcome */
        uint64_t n_refused;
        uint64_t n_vectors;
        struct buffer metadata; /* of the document at hand */
        uint64_t n_of_path; /* taken from the path that is being read */
        bool bar;
        uint64_t bytes_total; /* 0: unknown */
        uint64_t bytes_done;
        uint64_t started_ns;
        uint64_t drawn_ns;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo) {
        (void)signo;
        interrupted = 1;
}

bool index_interrupted(void) {
        return interrupted;
}

/* The first one ends the command in order, a second one at once: that loses what was not committed. */
static void catch_interrupt(void) {
        const struct sigaction action = {
                        .sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};

        sigaction(SIGINT, &action, NULL);
}

static uint64_t now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- the bar ------------------------------------------------------------------------------- */

static void bar_clear(const struct adding *adding) {
        if (adding->bar && adding->drawn_ns != 0)
                fputs("\r\033[K", stderr);
}

static void bar_print(const struct adding *adding, double seconds) {
        const double rate = seconds > 0 ? (double)adding->bytes_done / seconds : 0;
        const uint64_t n = adding->n_outcomes[INDEX_ADDED] + adding->n_outcomes[INDEX_REPLACED] +
                           adding->n_outcomes[INDEX_UNCHANGED];

        fputs("\r\033[K", stderr);
        if (adding->bytes_total > 0) {
                const double done = adding->bytes_done >= adding->bytes_total
                                                    ? 1.0
                                                    : (double)adding->bytes_done /
                                                                      (double)adding->bytes_total;
                const uint64_t eta = rate > 0 ? (uint64_t)((double)adding->bytes_total *
                                                                                (1 - done) / rate +
                                                                0.5)
                                              : 0;

                fputc('[', stderr);
                for (int i = 0; i < BAR_CELLS; i++)
                        fputc(i < (int)(done * BAR_CELLS + 0.5) ? '#' : '.', stderr);
                fprintf(stderr, "] %3d %%  ETA %" PRIu64 ":%02" PRIu64 "  ", (int)(done * 100),
                                eta / 60, eta % 60);
        }
        fprintf(stderr, "%.1f MB/s  %" PRIu64 " documents", rate / 1e6, n);
        fflush(stderr);
}

static void bar_tick(struct adding *adding) {
        const uint64_t now = adding->bar ? now_ns() : 0;

        if (!adding->bar || now - adding->drawn_ns < BAR_EVERY_NS)
                return;
        adding->drawn_ns = now;
        bar_print(adding, (double)(now - adding->started_ns) / 1e9);
}

/* ---- what the reading hands over ----------------------------------------------------------- */

static void on_read(uint64_t n_bytes, void *ctx) {
        struct adding *adding = ctx;

        adding->bytes_done += n_bytes;
        bar_tick(adding);
}

static void on_refused(const char *file, uint64_t row, const char *why, void *ctx) {
        struct adding *adding = ctx;

        adding->n_refused++;
        bar_clear(adding);
        if (row > 0)
                cli_error("index", "%s:%" PRIu64 ": %s", file, row, why);
        else
                cli_error("index", "%s: %s", file, why);
}

/* What was named with --meta, but for what the document says itself. */
static int add_metadata(struct adding *adding, struct index_document *doc) {
        int r;

        adding->metadata.n_bytes = 0;
        r = metadata_join(doc->metadata, adding->options->pairs, adding->options->n_pairs,
                        &adding->metadata);
        doc->metadata = (struct index_str){adding->metadata.data, adding->metadata.n_bytes};
        return r;
}

static int on_document(const struct index_document *doc, uint64_t row, void *ctx) {
        struct adding *adding = ctx;
        struct index_document placed = *doc;
        enum index_outcome outcome = INDEX_ADDED;
        int r = interrupted ? -EINTR : 0;

        placed.key = index_cmd_key(adding->options, doc->key.id);
        if (r == 0 && adding->options->n_pairs > 0)
                r = add_metadata(adding, &placed);
        if (r == 0 && !adding->writer)
                r = index_cmd_writer(adding->options, &adding->err, &adding->writer);
        if (r == 0)
                r = index_writer_add(adding->writer, &placed, &adding->err, &outcome);
        if (r == INDEX_E_DOCUMENT) {
                on_refused(doc->source.data, row, adding->err.text, adding);
                return 0;
        }
        if (r != 0)
                return r;
        adding->n_outcomes[outcome]++;
        adding->n_of_path++;
        bar_tick(adding);
        return 0;
}

/* ---- the verb ------------------------------------------------------------------------------ */

/* *ret_failed: some path gave nothing but complaints. */
static int read_all(struct adding *adding, bool *ret_failed) {
        const struct documents_sink sink = {on_document, on_refused, on_read, adding};

        for (int i = 0; i < adding->options->n_args; i++) {
                const uint64_t refused = adding->n_refused;
                int r;

                adding->n_of_path = 0;
                r = documents_read(adding->options->args[i], &sink);
                if (r == -EINTR)
                        break;
                if (r != 0)
                        return r;
                if (adding->n_of_path > 0)
                        continue;
                if (adding->n_refused > refused)
                        *ret_failed = true;
                else
                        cli_error("index", "%s: no documents there", adding->options->args[i]);
        }
        return adding->writer ? index_writer_commit(adding->writer, &adding->err) : 0;
}

/* Without a writer nothing was added: the index, if there is one, is as it was. */
static struct index_stats stats_now(const struct adding *adding) {
        struct index_reader *reader = NULL;
        struct index_stats stats = {0};
        struct index_error err = {0};

        if (adding->writer)
                return index_writer_stats(adding->writer);
        if (index_reader_open(adding->options->path, &err, &reader) == 0)
                (void)index_reader_stats(reader, &err, &stats);
        index_reader_free(reader);
        return stats;
}

static void print_result(const struct adding *adding) {
        const uint64_t took_us = (now_ns() - adding->started_ns) / 1000;
        const struct index_stats stats = stats_now(adding);
        char vectors[40] = "";

        if (adding->options->services->embeddings || adding->n_vectors > 0)
                snprintf(vectors, sizeof(vectors), ", %" PRIu64 " vectors", adding->n_vectors);
        if (adding->options->json)
                printf("{\"added\":%" PRIu64 ",\"replaced\":%" PRIu64 ",\"unchanged\":%" PRIu64
                       ",\"refused\":%" PRIu64 ",\"documents\":%" PRIu64 ",\"chunks\":%" PRIu64
                       ",\"bytes\":%" PRIu64 ",\"vectors\":%" PRIu64 ",\"took_us\":%" PRIu64 "}\n",
                                adding->n_outcomes[INDEX_ADDED], adding->n_outcomes[INDEX_REPLACED],
                                adding->n_outcomes[INDEX_UNCHANGED], adding->n_refused,
                                stats.documents, stats.chunks, stats.bytes, adding->n_vectors,
                                took_us);
        else
                printf("added %" PRIu64 ", replaced %" PRIu64 ", unchanged %" PRIu64
                       ", refused %" PRIu64 " in %.1f s; %s holds %" PRIu64 " documents, %" PRIu64
                       " chunks%s\n",
                                adding->n_outcomes[INDEX_ADDED], adding->n_outcomes[INDEX_REPLACED],
                                adding->n_outcomes[INDEX_UNCHANGED], adding->n_refused,
                                (double)took_us / 1e6, adding->options->path, stats.documents,
                                stats.chunks, vectors);
}

int index_cmd_add(const struct index_options *options) {
        struct adding adding = {
                        .options = options,
                        .bar = isatty(STDERR_FILENO) == 1,
                        .started_ns = now_ns(),
        };
        bool failed = false;
        int r = index_vectors_check(options);

        if (r != CLI_DONE)
                return r;
        catch_interrupt();
        for (int i = 0; adding.bar && i < options->n_args; i++)
                adding.bytes_total += documents_bytes(options->args[i]);
        r = read_all(&adding, &failed);
        bar_clear(&adding);
        if (r != 0) {
                if (adding.err.text[0] == '\0')
                        snprintf(adding.err.text, sizeof(adding.err.text), "%s", strerror(-r));
                index_complain_of(options->path, r, &adding.err);
                failed = true;
        } else {
                if (!interrupted)
                        failed |= index_vectors_update(options, &adding.n_vectors) != CLI_DONE;
                print_result(&adding);
        }
        index_writer_free(adding.writer);
        buffer_clear(&adding.metadata);
        if (interrupted)
                cli_error("index", "interrupted: what was added stays, and the same command goes on "
                                   "from there");
        if (interrupted)
                return CLI_INTERRUPTED;
        return failed ? CLI_FAILED : CLI_DONE;
}
