/*
 * bench_redact -- what redaction costs a text that streams, beside plain PCRE2 over the whole of it.
 *
 *      bench_redact FILE...
 *
 * Prints three lines of two numbers, medians of alternating rounds over the files' text with the core
 * entities:
 *      ns a byte in pieces of 64 bytes; ns a byte of the same patterns over the whole text, one after the
 *      other, and nothing else (no checks, no context, no output)
 *      ns a token of 4 bytes; ns of a memcpy of it
 *      bytes that wait after a token: p50, p99
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stages/engines/redact/rules.h"

#define ROUNDS 9
#define TEXT_MAX (1u << 20)
#define TOKEN 4u
#define CHUNK 64u

static char text[TEXT_MAX], to[TEXT_MAX * 8];
static size_t n_text, n_to;
static struct redact_stream stream;
static uint32_t held[REDACT_HELD + 1];

static double now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void put(void *ctx, const struct redact_piece *piece) {
        (void)ctx;
        if (piece->n <= sizeof(to) - n_to) {
                memcpy(to + n_to, piece->text, piece->n);
                n_to += piece->n;
        }
}

static double streamed(struct redact *r, uint32_t step, bool note) {
        const struct redact_sink sink = {put, NULL, NULL};
        double from = now_ns();

        n_to = 0;
        for (size_t at = 0; at < n_text; at += step) {
                redact_feed(r, &stream, text + at, n_text - at < step ? n_text - at : step, false,
                                &sink);
                if (note)
                        held[stream.n_held]++;
        }
        redact_feed(r, &stream, NULL, 0, true, &sink);
        return now_ns() - from;
}

static double plain(struct redact *r) {
        double from = now_ns();

        for (uint32_t i = 0; i < r->n_forms; i++) {
                const size_t *span = pcre2_get_ovector_pointer(r->match);
                size_t at = 0;
                while (at < n_text && pcre2_jit_match(r->forms[i].code, (PCRE2_SPTR)text, n_text,
                                                      at, 0, r->match, r->matching) > 0)
                        at = span[1];
        }
        return now_ns() - from;
}

static double copied(void) {
        double from = now_ns();

        for (size_t at = 0; at + TOKEN <= n_text; at += TOKEN) {
                memcpy(to + at, text + at, TOKEN);
                __asm__ volatile("" ::: "memory");
        }
        return now_ns() - from;
}

static int ascending(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static double median(double *v) {
        qsort(v, ROUNDS, sizeof(*v), ascending);
        return v[ROUNDS / 2];
}

static uint32_t held_percentile(double part) {
        uint64_t all = 0, seen = 0;
        uint32_t i = 0;

        for (i = 0; i <= REDACT_HELD; i++)
                all += held[i];
        for (i = 0; i < REDACT_HELD && (double)(seen += held[i]) < part * (double)all; i++)
                ;
        return i;
}

static void read_files(char **paths) {
        for (; *paths; paths++) {
                FILE *file = fopen(*paths, "re");
                if (!file) {
                        perror(*paths);
                        exit(1);
                }
                n_text += fread(text + n_text, 1, sizeof(text) - n_text, file);
                fclose(file);
        }
}

int main(int argc, char **argv) {
        static const char *const core[] = {"core"};
        const struct redact_options options = {.entities = core, .n_entities = 1, .min_score = 0.4};
        double chunks[ROUNDS], tokens[ROUNDS], whole[ROUNDS], copies[ROUNDS];
        struct redact_why why = {""};
        struct redact *r;

        read_files(argv + 1);
        if (argc < 2 || n_text < CHUNK || redact_new(&options, &r, &why)) {
                fprintf(stderr, "bench_redact: FILE... was expected; %s\n", why.text);
                return 1;
        }
        streamed(r, TOKEN, true);
        for (unsigned i = 0; i < ROUNDS; i++) {
                chunks[i] = streamed(r, CHUNK, false) / (double)n_text;
                whole[i] = plain(r) / (double)n_text;
                tokens[i] = streamed(r, TOKEN, false) / (double)n_text * TOKEN;
                copies[i] = copied() / (double)n_text * TOKEN;
        }
        printf("%.3f %.3f\n%.1f %.2f\n%u %u\n", median(chunks), median(whole), median(tokens),
                        median(copies), held_percentile(0.5), held_percentile(0.99));
        redact_free(r);
        return 0;
}
