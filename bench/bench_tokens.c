/*
 * bench_tokens -- what counting a chat's tokens costs, beside a copy and the gateway's scan of its body.
 *
 *      bench_tokens FILE...
 *
 * The files' text becomes one message of 220 KB. Prints two numbers, medians of alternating rounds: us to
 * count the body's tokens where it lies, as assemble does; us to copy it and scan it, as the gateway does.
 * Both in CPU time: a round is longer than a turn on a shared core.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stages/engines/json/body.h"
#include "stages/engines/json/json.h"
#include "stages/engines/tokens/chat.h"

#define ROUNDS 25
#define BODY_BYTES (220u * 1024)

static char text[BODY_BYTES], body[BODY_BYTES * 2], copy[BODY_BYTES * 2];

static double now_us(void) {
        struct timespec ts;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
        return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static double median(double *v) {
        qsort(v, ROUNDS, sizeof(*v), ascending);
        return v[ROUNDS / 2];
}

/* The text as often as it takes. */
static uint32_t body_make(char **paths) {
        struct json_buf b = {.at = body, .cap = sizeof(body)};
        size_t n = 0;

        for (; *paths && n < sizeof(text); paths++) {
                FILE *file = fopen(*paths, "re");
                if (!file) {
                        perror(*paths);
                        exit(1);
                }
                n += fread(text + n, 1, sizeof(text) - n, file);
                fclose(file);
        }
        json_put_text(&b, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"");
        while (n > 0 && b.len < BODY_BYTES) {
                uint32_t left = BODY_BYTES - b.len, part = n < left ? (uint32_t)n : left;
                json_put_escaped(&b, text, json_utf8_cut(text, (uint32_t)n, part));
        }
        json_put_text(&b, "\"}]}");
        return b.len;
}

int main(int argc, char **argv) {
        double counts[ROUNDS], scans[ROUNDS];
        static struct chat_count chat;
        static struct body_found found;
        struct body_scanner *scanner;
        uint32_t n = body_make(argv + 1);

        if (argc < 2 || body_scanner_new(&scanner))
                return 1;
        for (unsigned i = 0; i < ROUNDS; i++) {
                double from = now_us();
                chat_begin(&chat);
                chat_feed(&chat, body, n);
                chat_end(&chat);
                counts[i] = now_us() - from;
                from = now_us();
                memcpy(copy, body, n);
                if (body_scan(scanner, BODY_CHAT, copy, n, &found)) {
                        fprintf(stderr, "bench_tokens: %s\n", found.error);
                        return 1;
                }
                scans[i] = now_us() - from;
        }
        printf("%.1f %.1f\n", median(counts), median(scans));
        body_scanner_free(scanner);
        return 0;
}
