/*
 * count -- `millrace count`: how many tokens a text is, as the assemble stage estimates it.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/count_fit.h"
#include "stages/engines/index/jsonl.h"
#include "stages/engines/index/rows.h"

#define TEXT_MAX ((size_t)256 << 20)
#define ROW_MAX ((size_t)64 << 20)

enum count_input { COUNT_WHOLE, COUNT_LINES, COUNT_JSONL };

struct count {
        enum count_input input;
        bool json;
        const char *socket, *model;
        struct fit fit; /* of the daemon that runs, if one does */
};

static const char usage[] =
        "usage: millrace count [-s SOCKET] [--model M] [--lines|--jsonl] [--json]\n"
        "  reads standard input and prints how many tokens it is, as assemble estimates them; a daemon\n"
        "  that runs corrects the estimate by what its backends have counted\n"
        "  --model M   the model's public name; without it: of all models together\n"
        "  --lines     each line is a text of its own\n"
        "  --jsonl     each line is a JSON object, its \"text\" is what counts\n"
        "  --json      {\"tokens\",\"method\"} for each text, and \"answers\" where some have corrected it\n"
        "exit: 0 counted, 1 not, with the reason, 2 wrong usage\n";

static void print(const struct count *count, struct index_str text) {
        struct tokens_count parts = {{0}};
        uint64_t tokens;

        tokens_count(&parts, text.data, text.n_bytes);
        tokens = fit_tokens(&count->fit, &parts);
        if (count->json && count->fit.n)
                printf("{\"tokens\":%" PRIu64 ",\"method\":\"estimate\",\"answers\":%" PRIu64 "}\n",
                                tokens, count->fit.n);
        else if (count->json)
                printf("{\"tokens\":%" PRIu64 ",\"method\":\"estimate\"}\n", tokens);
        else
                printf("%" PRIu64 "\n", tokens);
}

static void complain(uint64_t line, const char *why) {
        cli_error("count", "standard input:%" PRIu64 ": %s", line, why);
}

static int count_row(const struct count *count, struct jsonl_row *row, uint64_t n,
                struct index_str line) {
        struct index_error why = {0};
        int r;

        if (count->input == COUNT_LINES) {
                print(count, line);
                return CLI_DONE;
        }
        r = jsonl_row_read(row, line, &why);
        if (r == 0 && row->has[JSONL_TEXT]) {
                print(count, jsonl_row_string(row, JSONL_TEXT));
                return CLI_DONE;
        }
        if (r == 0)
                complain(n, "the row has no \"text\"");
        else
                complain(n, r == -EBADMSG ? why.text : strerror(-r));
        return CLI_FAILED;
}

/* A number for each line; the first that cannot be counted ends it, so that numbers stay those of
 * their lines. */
static int count_rows(const struct count *count) {
        struct rows rows = {.fd = STDIN_FILENO, .max_bytes = ROW_MAX};
        struct jsonl_row row = {0};
        int code = CLI_DONE, r = 0;

        for (uint64_t n = 1; code == CLI_DONE && r != ROWS_END; n++) {
                struct index_str line;
                r = rows_next(&rows, &line);
                if (r == 0) {
                        code = count_row(count, &row, n, line);
                } else if (r != ROWS_END) {
                        complain(n, r < 0 ? strerror(-r) : "the line is over 64 MiB");
                        code = CLI_FAILED;
                }
        }
        jsonl_row_clear(&row);
        rows_clear(&rows);
        return code;
}

static int count_whole(const struct count *count) {
        struct rows rows = {.fd = STDIN_FILENO, .max_bytes = TEXT_MAX};
        struct index_str text;
        int r = rows_rest(&rows, &text);

        if (r == 0)
                print(count, text);
        else
                cli_error("count", "standard input: %s",
                                r < 0 ? strerror(-r) : "the text is over 256 MiB");
        rows_clear(&rows);
        return r == 0 ? CLI_DONE : CLI_FAILED;
}

/* -1: go on; else the exit code. */
static int read_options(int argc, char **argv, struct count *count) {
        static const struct option names[] = {
                {"help", no_argument, NULL, 'h'},  {"json", no_argument, NULL, 'j'},
                {"jsonl", no_argument, NULL, 'r'}, {"lines", no_argument, NULL, 'l'},
                {"model", required_argument, NULL, 'm'}, {"socket", required_argument, NULL, 's'}, {0},
        };
        int c;

        optind = 0;
        while ((c = getopt_long(argc, argv, "s:h", names, NULL)) != -1) {
                enum count_input input = c == 'l' ? COUNT_LINES : COUNT_JSONL;
                if (c == 'h') {
                        fputs(usage, stdout);
                        return CLI_DONE;
                }
                if (c == 'j') {
                        count->json = true;
                } else if (c == 'm') {
                        count->model = optarg;
                } else if (c == 's') {
                        count->socket = optarg;
                } else if ((c == 'l' || c == 'r') &&
                                (count->input == COUNT_WHOLE || count->input == input)) {
                        count->input = input;
                } else {
                        if (c == 'l' || c == 'r')
                                cli_error("count", "--lines and --jsonl exclude each other");
                        fputs(usage, stderr);
                        return CLI_USAGE;
                }
        }
        if (argc == optind)
                return -1;
        cli_error("count", "%s: the text comes on standard input", argv[optind]);
        fputs(usage, stderr);
        return CLI_USAGE;
}

int cmd_count(int argc, char **argv) {
        struct count count = {0};
        int r = read_options(argc, argv, &count);

        if (r >= 0)
                return r;
        count_fit(count.socket, count.model, &count.fit);
        if (count.fit.n && !count.json)
                cli_error("count", "corrected by %" PRIu64 " answers of the daemon's backends", count.fit.n);
        return count.input == COUNT_WHOLE ? count_whole(&count) : count_rows(&count);
}
