/*
 * index_search -- `millrace index search`: one query from the command line, or a file of them.
 */
#include "cli/index_cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stages/engines/index/documents.h"
#include "stages/engines/index/jsonl.h"
#include "stages/engines/index/rows.h"
#include "stages/engines/vectors/hybrid.h"

#define SNIPPET_BYTES 320u

struct search {
        const struct index_options *options;
        struct hybrid *hybrid;
        bool told[2]; /* by enum remote_kind: that a service is done without */
        struct index_error err;
        yajl_gen gen; /* NULL: for people */
        bool bold;
};

/* What a query is called in its answer: a string, a number as it was written, or null (n_bytes 0).
 */
struct name {
        struct index_str text;
        bool number;
};

static uint64_t now_us(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static struct index_str snippet_of(const struct index_result *result, size_t i, size_t max_bytes) {
        const struct index_hit *hit = index_result_hit(result, i);
        size_t start = 0;
        size_t end = 0;

        if (index_result_snippet(result, i, max_bytes, &start, &end) != 0)
                return (struct index_str){"", 0};
        return (struct index_str){hit->text.data + start, end - start};
}

static void gen_hit(yajl_gen gen, const struct index_result *result, size_t i) {
        const struct index_hit *hit = index_result_hit(result, i);
        char score[32];
        int n = snprintf(score, sizeof(score), "%.9g", hit->score);

        yajl_gen_map_open(gen);
        index_gen_str(gen, "id", hit->key.id);
        index_gen_str(gen, "title", hit->title);
        index_gen_key(gen, "score");
        yajl_gen_number(gen, score, (size_t)n);
        index_gen_u64(gen, "rank", i + 1);
        index_gen_str(gen, "snippet", snippet_of(result, i, SNIPPET_BYTES));
        index_gen_u64(gen, "start", hit->start);
        index_gen_u64(gen, "end", hit->end);
        yajl_gen_map_close(gen);
}

static void print_hits_json(const struct search *search, const struct name *name,
                const struct index_result *result, uint64_t took_us) {
        yajl_gen gen = search->gen;

        yajl_gen_map_open(gen);
        index_gen_key(gen, "query_id");
        if (!name)
                yajl_gen_null(gen);
        else if (name->number)
                yajl_gen_number(gen, name->text.data, name->text.n_bytes);
        else
                yajl_gen_string(gen, (const unsigned char *)name->text.data, name->text.n_bytes);
        index_gen_u64(gen, "took_us", took_us);
        index_gen_key(gen, "hits");
        yajl_gen_array_open(gen);
        for (size_t i = 0; i < index_result_n(result); i++)
                gen_hit(gen, result, i);
        yajl_gen_array_close(gen);
        yajl_gen_map_close(gen);
        index_print_json(gen);
}

static void print_hits(const struct search *search, const struct index_result *result) {
        for (size_t i = 0; i < index_result_n(result); i++) {
                const struct index_hit *hit = index_result_hit(result, i);

                printf("%2zu. %s", i + 1, search->bold ? "\033[1m" : "");
                index_print_plain(stdout, hit->title.n_bytes > 0 ? hit->title : hit->key.id);
                printf("%s  (%.2f)\n    ", search->bold ? "\033[0m" : "", hit->score);
                index_print_plain(stdout, hit->key.id);
                printf(" [%" PRIu64 "-%" PRIu64 "]\n    ", hit->start, hit->end);
                index_print_plain(stdout, snippet_of(result, i, SNIPPET_BYTES));
                fputc('\n', stdout);
        }
        if (index_result_n(result) == 0)
                fputs("nothing found\n", stderr);
}

static int ask(struct search *search, const struct name *name, struct index_str text) {
        const uint64_t started_us = now_us();
        const struct index_options *options = search->options;
        const struct index_query query = {.text = text,
                        .scope = {.tenant = options->tenant,
                                        .asked = {options->collections, options->n_collections,
                                                        options->pairs, options->n_pairs}},
                        .k = options->k,
                        .expand = options->expand};
        struct index_result *result = NULL;
        int r = hybrid_run(search->hybrid, &query, &search->err, &result);

        if (r != 0)
                return index_complain_of(search->options->path, r, &search->err);
        if (search->gen)
                print_hits_json(search, name, result, now_us() - started_us);
        else
                print_hits(search, result);
        index_result_free(result);
        return CLI_DONE;
}

static int ask_arguments(struct search *search) {
        struct buffer text = {0};
        int r = 0;

        for (int i = 0; r == 0 && i < search->options->n_args; i++) {
                if (i > 0)
                        r = buffer_append(&text, " ", 1);
                if (r == 0)
                        r = buffer_append(&text, search->options->args[i],
                                        strlen(search->options->args[i]));
        }
        if (r == 0)
                r = ask(search, NULL, (struct index_str){text.data ? text.data : "", text.n_bytes});
        buffer_clear(&text);
        return r < 0 ? CLI_FAILED : r;
}

static int ask_row(
                struct search *search, struct jsonl_row *row, uint64_t n, struct index_str line) {
        struct index_error why = {0};
        int r = jsonl_row_read(row, line, &why);

        if (r == 0 && !row->has[JSONL_TEXT]) {
                snprintf(why.text, sizeof(why.text), "the row has no \"text\"");
                r = -EBADMSG;
        }
        if (r != 0) {
                cli_error("index", "%s:%" PRIu64 ": %s", search->options->queries, n,
                                r == -EBADMSG ? why.text : strerror(-r));
                return CLI_FAILED;
        }
        const struct name name = {jsonl_row_string(row, JSONL_ID), row->id_is_number};
        return ask(search, row->has[JSONL_ID] ? &name : NULL, jsonl_row_string(row, JSONL_TEXT));
}

static bool is_empty(struct index_str line) {
        for (size_t i = 0; i < line.n_bytes; i++)
                if (line.data[i] != ' ' && line.data[i] != '\t' && line.data[i] != '\r')
                        return false;
        return true;
}

/* A bad row is told, the others are asked; the exit code remembers. */
static int ask_rows(struct search *search, int fd) {
        struct rows rows = {.fd = fd, .max_bytes = DOCUMENTS_BYTES_MAX};
        struct jsonl_row row = {0};
        int code = CLI_DONE;
        int r = 0;

        for (uint64_t n = 1; r == 0 || r == ROWS_E_LONG; n++) {
                struct index_str line;

                r = rows_next(&rows, &line);
                if (r == ROWS_E_LONG || r < 0) {
                        cli_error("index", "%s:%" PRIu64 ": %s", search->options->queries, n,
                                        r < 0 ? strerror(-r) : "the row is over 64 MiB");
                        code = CLI_FAILED;
                } else if (r == 0 && !is_empty(line) && ask_row(search, &row, n, line) != 0) {
                        code = CLI_FAILED;
                }
        }
        jsonl_row_clear(&row);
        rows_clear(&rows);
        return code;
}

static int ask_file(struct search *search) {
        const char *path = search->options->queries;
        const bool is_stdin = strcmp(path, "-") == 0;
        int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
        int code;

        if (fd == -1) {
                cli_error("index", "%s: %s", path, strerror(errno));
                return CLI_FAILED;
        }
        code = ask_rows(search, fd);
        if (!is_stdin)
                close(fd);
        return code;
}

/* Once, not for each row. */
static void on_told(void *ctx, enum remote_kind kind, enum hybrid_outcome outcome,
                const char *why) {
        struct search *search = ctx;

        if (outcome == HYBRID_WORKED || search->told[kind])
                return;
        search->told[kind] = true;
        cli_error("index", "done without %s: %s",
                        kind == REMOTE_EMBEDDINGS ? "rag.embeddings" : "rag.rerank", why);
}

int index_cmd_search(const struct index_options *options) {
        const bool json = options->json || options->queries;
        const struct index_services *services = options->services;
        struct search search = {
                        .options = options,
                        .bold = isatty(STDOUT_FILENO) == 1 && !getenv("NO_COLOR"),
        };
        const struct hybrid_conf conf = {.folder = options->path,
                        .embeddings = services->embeddings,
                        .rerank = services->rerank,
                        .fusion = services->fusion,
                        .told = on_told,
                        .ctx = &search};
        int r = hybrid_new(&conf, &search.hybrid);

        if (r == 0)
                r = hybrid_open(search.hybrid, &search.err);
        if (r != 0) {
                hybrid_free(search.hybrid);
                return index_complain_of(options->path, r, &search.err);
        }
        search.gen = json ? yajl_gen_alloc(NULL) : NULL;
        if (json && !search.gen)
                r = CLI_FAILED;
        else
                r = options->queries ? ask_file(&search) : ask_arguments(&search);
        if (search.gen)
                yajl_gen_free(search.gen);
        hybrid_free(search.hybrid);
        return r;
}
