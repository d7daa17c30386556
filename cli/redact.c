/*
 * redact -- `millrace redact`: the engine of the post stage over standard input.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli/cli.h"
#include "stages/engines/index/documents.h"
#include "stages/engines/index/jsonl.h"
#include "stages/engines/index/rows.h"
#include "stages/engines/json/json.h"
#include "stages/engines/redact/redact.h"
#include "supervisor/config.h"

#define READ_BYTES 65536u
#define LISTED_MAX 256u
#define KEY_BYTES 32u /* of a key for this run only */

static const char usage[] =
                "usage: millrace redact [--entities LIST|all] [--min-score F] [--action A] "
                "[--numbered]\n"
                "                       [--rules FILE] [-c FILE] [--stream N] [--lines | --jsonl] "
                "[--json]\n"
                "       millrace redact --list\n"
                "  --entities LIST      what is looked for, a comma between two; core or all "
                "(default)\n"
                "  --min-score F        score from which a find counts, 0 to 1; default 0.4\n"
                "  --action A           replace (default), mask, hash, drop or block\n"
                "  --numbered           replace numbers the values: <EMAIL_ADDRESS_1>\n"
                "  --rules FILE         patterns, words and allowed values of one's own\n"
                "  -c, --config FILE    what post.redact of a configuration says instead of the "
                "defaults\n"
                "  --stream N           feed N bytes at a time, write what is settled before the "
                "next\n"
                "  --lines              each line is a text of its own\n"
                "  --jsonl              each line is a JSON object with the text in \"text\"\n"
                "  --json               for each text one JSON object: text and entities\n"
                "  --list               the entities that there are, as a table in Markdown\n";

struct options {
        struct redact_config engine;
        const char *listed[LISTED_MAX];
        const char *file;
        const char *entities, *action;
        double min_score; /* below 0: not given */
        bool numbered;
        const char *rules;
        uint32_t stream; /* 0: not given */
        bool lines, jsonl, json, list;
};

/* ---- one text ---- */

struct run {
        const struct options *options;
        struct redact *engine;
        struct redact_stream stream;
        struct redact_numbers numbers;
        struct buffer text, entities; /* of the answer in JSON */
        bool out_of_memory, blocked, blocked_ever;
};

static void append(struct run *run, struct buffer *to, const char *p, size_t n) {
        if (buffer_append(to, p, n) != 0)
                run->out_of_memory = true;
}

/* A JSON string, for what may not be UTF-8 too. */
static void append_string(struct run *run, struct buffer *to, const char *p, size_t n) {
        struct json_buf json = {.cap = 0};

        if (n < UINT32_MAX / JSON_ESCAPE_GROWTH - 2) {
                json.cap = (uint32_t)n * JSON_ESCAPE_GROWTH + 2;
                json.at = malloc(json.cap);
        }
        if (!json.at) {
                run->out_of_memory = true;
                return;
        }
        json_put_text(&json, "\"");
        json_put_mended(&json, p, (uint32_t)n);
        json_put_text(&json, "\"");
        append(run, to, json.at, json.len);
        free(json.at);
}

static void append_entity(struct run *run, const struct redact_piece *piece) {
        char text[160];
        int n = snprintf(text, sizeof(text),
                        "%s{\"type\":\"%s\",\"start\":%" PRIu64 ",\"end\":%" PRIu64
                        ",\"score\":%.4g,\"text_in\":",
                        run->entities.n_bytes ? "," : "", redact_name(run->engine, piece->entity),
                        piece->start, piece->end, piece->score);

        append(run, &run->entities, text, (size_t)n);
        append_string(run, &run->entities, piece->found, piece->end - piece->start);
        append(run, &run->entities, "}", 1);
}

static void put(void *ctx, const struct redact_piece *piece) {
        struct run *run = ctx;

        run->blocked |= piece->blocked;
        if (!run->options->json && !run->options->jsonl)
                fwrite(piece->text, 1, piece->n, stdout);
        else
                append(run, &run->text, piece->text, piece->n);
        if (run->options->json && piece->entity != REDACT_PLAIN)
                append_entity(run, piece);
}

static void feed(struct run *run, const char *p, size_t n, bool last) {
        redact_feed(run->engine, &run->stream, p, n, last,
                        &(struct redact_sink){put, run, &run->numbers});
}

/* The text is over: its answer, where that comes whole, and a clean state for the next one. */
static void finish(struct run *run) {
        struct buffer line = {0};

        feed(run, NULL, 0, true);
        if (run->options->json || run->options->jsonl) {
                append(run, &line, "{\"text\":", 8);
                append_string(run, &line, run->text.data ? run->text.data : "", run->text.n_bytes);
                if (run->options->json) {
                        append(run, &line, ",\"entities\":[", 13);
                        append(run, &line, run->entities.data ? run->entities.data : "",
                                        run->entities.n_bytes);
                        append(run, &line, "]", 1);
                }
                if (run->blocked)
                        append(run, &line, ",\"blocked\":true", 15);
                append(run, &line, "}\n", 2);
                fwrite(line.data ? line.data : "", 1, line.n_bytes, stdout);
                fflush(stdout);
        }
        run->blocked_ever |= run->blocked;
        run->blocked = false;
        run->numbers.n = 0;
        run->text.n_bytes = run->entities.n_bytes = 0;
        buffer_clear(&line);
}

/* ---- standard input ---- */

/* Lines end with \n only; the last may go without. */
static bool feed_lines(struct run *run, const char *p, size_t n, bool in_line) {
        while (n > 0) {
                const char *end = memchr(p, '\n', n);
                size_t take = end ? (size_t)(end - p) : n;

                feed(run, p, take, false);
                in_line = !end;
                if (end) {
                        finish(run);
                        if (!run->options->json)
                                fputc('\n', stdout);
                        take++;
                }
                p += take;
                n -= take;
        }
        return in_line;
}

static int read_text(struct run *run) {
        uint32_t step = run->options->stream ? run->options->stream : READ_BYTES;
        char *bytes = malloc(step);
        bool in_line = false;
        ssize_t n = 0;

        while (bytes && !ferror(stdout) && (n = read(STDIN_FILENO, bytes, step)) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        break;
                if (run->options->lines)
                        in_line = feed_lines(run, bytes, (size_t)n, in_line);
                else
                        feed(run, bytes, (size_t)n, false);
                fflush(stdout);
        }
        if (n < 0)
                cli_error("redact", "standard input: %s", strerror(errno));
        if (in_line || !run->options->lines)
                finish(run);
        free(bytes);
        return n < 0 ? CLI_FAILED : CLI_DONE;
}

static void feed_row(struct run *run, struct index_str text) {
        size_t step = run->options->stream ? run->options->stream : READ_BYTES;

        for (size_t at = 0; at < text.n_bytes; at += step)
                feed(run, text.data + at, text.n_bytes - at < step ? text.n_bytes - at : step,
                                false);
        finish(run);
}

static int read_rows(struct run *run) {
        struct rows rows = {.fd = STDIN_FILENO, .max_bytes = DOCUMENTS_BYTES_MAX};
        struct jsonl_row row = {0};
        struct index_str line;
        int r = 0;

        for (uint64_t n = 1; (r = rows_next(&rows, &line)) == 0; n++) {
                struct index_error why = {0};
                r = jsonl_row_read(&row, line, &why);
                if (r == 0 && !row.has[JSONL_TEXT])
                        snprintf(why.text, sizeof(why.text), "the row has no \"text\"");
                if (r != 0 || !row.has[JSONL_TEXT]) {
                        cli_error("redact", "line %" PRIu64 ": %s", n,
                                        why.text[0] ? why.text : strerror(-r));
                        r = -EBADMSG;
                        break;
                }
                feed_row(run, jsonl_row_string(&row, JSONL_TEXT));
        }
        if (r == ROWS_E_LONG)
                cli_error("redact", "a line is over 64 MiB");
        else if (r < 0 && r != -EBADMSG)
                cli_error("redact", "standard input: %s", strerror(-r));
        jsonl_row_clear(&row);
        rows_clear(&rows);
        return r == ROWS_END ? CLI_DONE : CLI_FAILED;
}

static int run_all(const struct options *options, struct redact *engine) {
        struct run *run = calloc(1, sizeof(*run));
        int code = CLI_FAILED;

        if (run) {
                run->options = options;
                run->engine = engine;
                code = options->jsonl ? read_rows(run) : read_text(run);
        }
        if (!run || run->out_of_memory) {
                cli_error("redact", "%s", strerror(ENOMEM));
                code = CLI_FAILED;
        }
        if (run && run->blocked_ever) {
                cli_error("redact", "blocked: the text ends before what must not go on");
                code = CLI_FAILED;
        }
        if (run) {
                buffer_clear(&run->text);
                buffer_clear(&run->entities);
        }
        free(run);
        return code;
}

/* ---- options ---- */

static int parse_number(
                const char *name, const char *text, double least, double most, double *ret) {
        char *end;
        double v = strtod(text, &end);

        if (end == text || *end || !(v >= least && v <= most)) {
                cli_error("redact", "--%s %s: a number from %g to %g was expected", name, text,
                                least, most);
                return CLI_USAGE;
        }
        *ret = v;
        return 0;
}

static int parse_option(int c, struct options *options) {
        double number = 0;

        switch (c) {
        case 'e':
                options->entities = optarg;
                return 0;
        case 'm':
                return parse_number("min-score", optarg, 0, 1, &options->min_score);
        case 'a':
                options->action = optarg;
                return 0;
        case 'n':
                options->numbered = true;
                return 0;
        case 'r':
                options->rules = optarg;
                return 0;
        case 'c':
                options->file = optarg;
                return 0;
        case 's':
                if (parse_number("stream", optarg, 1, 1 << 30, &number))
                        return CLI_USAGE;
                options->stream = (uint32_t)number;
                return 0;
        case 'l':
                options->lines = true;
                return 0;
        case 'j':
                options->jsonl = true;
                return 0;
        case 'J':
                options->json = true;
                return 0;
        case 'L':
                options->list = true;
                return 0;
        default:
                return CLI_USAGE;
        }
}

/* -1: go on. Otherwise the exit code. */
static int parse_options(int argc, char **argv, struct options *options) {
        static const struct option names[] = {
                        {"action", required_argument, NULL, 'a'},
                        {"config", required_argument, NULL, 'c'},
                        {"entities", required_argument, NULL, 'e'},
                        {"help", no_argument, NULL, 'h'},
                        {"json", no_argument, NULL, 'J'},
                        {"jsonl", no_argument, NULL, 'j'},
                        {"lines", no_argument, NULL, 'l'},
                        {"list", no_argument, NULL, 'L'},
                        {"min-score", required_argument, NULL, 'm'},
                        {"numbered", no_argument, NULL, 'n'},
                        {"rules", required_argument, NULL, 'r'},
                        {"stream", required_argument, NULL, 's'},
                        {0},
        };
        int c;

        optind = 0;
        while ((c = getopt_long(argc, argv, "c:h", names, NULL)) != -1) {
                if (c == 'h') {
                        fputs(usage, stdout);
                        return CLI_DONE;
                }
                if (parse_option(c, options))
                        return CLI_USAGE;
        }
        if (optind < argc || (options->lines && options->jsonl)) {
                if (optind < argc)
                        cli_error("redact", "unexpected argument `%s`", argv[optind]);
                else
                        cli_error("redact", "choose one of --lines, --jsonl");
                fputs(usage, stderr);
                return CLI_USAGE;
        }
        return -1;
}

static int list(void) {
        const struct redact_entity_row *row;

        printf("| entity | core | what is found |\n|---|---|---|\n");
        for (uint32_t i = 0; (row = redact_builtin(i)); i++)
                printf("| `%s` | %s | %s |\n", row->name, row->core ? "yes" : "", row->sentence);
        return CLI_DONE;
}

/* Splits the list in place. */
static int list_entities(struct options *options, char *list) {
        char *rest = list;

        options->engine.n_entities = 0;
        for (char *name; (name = strsep(&rest, ","));) {
                if (options->engine.n_entities == LISTED_MAX) {
                        cli_error("redact", "--entities: at most %u", LISTED_MAX);
                        return CLI_USAGE;
                }
                options->listed[options->engine.n_entities++] = name;
        }
        options->engine.entities = options->listed;
        return 0;
}

/* Without a key hashes tell values of this run apart, and nothing else. */
static void use_any_key(void) {
        uint8_t key[KEY_BYTES];
        char hex[2 * KEY_BYTES + 1];

        if (getenv("MILLRACE_REDACT_KEY") || getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
                return;
        for (unsigned i = 0; i < KEY_BYTES; i++)
                snprintf(hex + 2 * i, 3, "%02x", key[i]);
        setenv("MILLRACE_REDACT_KEY", hex, 1);
}

static int make_engine(struct options *options, struct redact **ret) {
        struct redact_config *engine = &options->engine;
        struct redact_why why = {""};
        int r;

        if (options->min_score >= 0)
                engine->min_score = options->min_score;
        if (options->action && !redact_action_find(options->action, strlen(options->action),
                                               &engine->action)) {
                cli_error("redact", "--action %s: replace, mask, hash, drop or block was expected",
                                options->action);
                return CLI_USAGE;
        }
        engine->numbered |= options->numbered;
        if (options->rules)
                engine->rules = options->rules;
        if (!engine->key_env) {
                use_any_key();
                engine->key_env = "MILLRACE_REDACT_KEY";
        }
        r = redact_load(engine, ret, &why);
        if (r)
                cli_error("redact", "%s", r == REDACT_E_RULES ? why.text : strerror(-r));
        return r == REDACT_E_RULES ? CLI_USAGE : r ? CLI_FAILED : 0;
}

static int redact(struct options *options, struct settings *settings) {
        struct redact *engine = NULL;
        char *list = NULL;
        int r = 0;

        if (settings)
                options->engine = REDACT_CONFIG(&settings->post.redact);
        if (!settings || options->entities) {
                list = strdup(options->entities ? options->entities : "all");
                r = list ? list_entities(options, list) : CLI_FAILED;
        }
        if (r == 0)
                r = make_engine(options, &engine);
        if (r == 0)
                r = run_all(options, engine);
        redact_free(engine);
        free(list);
        return r;
}

int cmd_redact(int argc, char **argv) {
        struct options options = {.min_score = -1, .engine = {.min_score = 0.4}};
        struct settings *settings = NULL;
        struct config_error err;
        int r = parse_options(argc, argv, &options);

        if (r >= 0)
                return r;
        if (options.list)
                return list();
        if (options.file) {
                r = config_load(options.file, NULL, 0, &settings, &err);
                if (r) {
                        cli_error("redact", "%s", r < 0 ? strerror(-r) : err.line);
                        return r < 0 ? CLI_FAILED : CLI_USAGE;
                }
        }
        r = redact(&options, settings);
        settings_free(settings);
        return r;
}
