/*
 * sessions -- `millrace sessions`: conversations that are kept.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli/plain.h"
#include "stages/engines/json/json.h"
#include "stages/engines/store/sessions.h"

static const char usage[] =
                "usage: millrace sessions [-c FILE | --database FILE] [--tenant NAME] [--json] VERB ...\n"
                "  list                 the sessions, the one that was used last comes last\n"
                "  show SESSION         its turns: one message of the chat a line\n"
                "  drop SESSION... | --all   forget them\n"
                "  --tenant NAME        only those of this tenant\n"
                "  -c, --config FILE    the daemon's configuration: which database it has\n"
                "  --database FILE      the database (default: main.db in $STATE_DIRECTORY, else in\n"
                "                       $XDG_STATE_HOME/millrace or ~/.local/state/millrace)\n"
                "  --json               results for programs: one JSON object a line\n";

struct sessions_options {
        const char *database, *tenant;
        bool json, all;
        char *const *names;
        int n_names;
};

/* What one walk over all sessions looks for, and what it does with those. */
struct walk {
        const struct sessions_options *options;
        const char *name; /* NULL: any */
        bool print;
        struct sessions_session *found; /* copies with their texts, when they are not printed */
        size_t n_found;
};

static bool is_text(struct results_text text, const char *name) {
        return text.n == strlen(name) && memcmp(text.p, name, text.n) == 0;
}

/* ---- printing ------------------------------------------------------------------------------ */

static void print_string(const char *key, struct results_text text) {
        struct json_buf out = {.cap = text.n * JSON_ESCAPE_GROWTH + 2};

        out.at = malloc(out.cap);
        if (out.at)
                json_put_string(&out, text.p, text.n);
        printf("\"%s\":%.*s", key, out.at ? (int)out.len : 2, out.at ? out.at : "\"\"");
        free(out.at);
}

static void print_members(const struct sessions_session *s) {
        print_string("session", s->name);
        putchar(',');
        print_string("tenant", s->tenant);
        printf(",\"turns\":%llu,\"kept\":%llu,\"bytes\":%llu,\"began_ms\":%lld,\"last_ms\":%lld",
                        (unsigned long long)s->turns, (unsigned long long)s->kept,
                        (unsigned long long)s->bytes, (long long)s->began_ms, (long long)s->last_ms);
}

static void print_line(const struct sessions_session *s, bool json) {
        char when[PLAIN_WHEN_BYTES];

        if (json) {
                putchar('{');
                print_members(s);
                printf("}\n");
                return;
        }
        plain_when(s->last_ms, when);
        plain_column(s->name.p, s->name.n, 36);
        plain_column(s->tenant.p, s->tenant.n, 12);
        printf("%s %6llu turns %10llu bytes\n", when, (unsigned long long)s->turns,
                        (unsigned long long)s->bytes);
}

/* ---- finding ------------------------------------------------------------------------------- */

static int note(void *ctx, const struct sessions_session *s) {
        struct walk *w = ctx;
        struct sessions_session *more;
        char *texts;

        if ((w->options->tenant && !is_text(s->tenant, w->options->tenant)) ||
                        (w->name && !is_text(s->name, w->name)))
                return 0;
        if (w->print) {
                print_line(s, w->options->json);
                return 0;
        }
        more = realloc(w->found, (w->n_found + 1) * sizeof(*more));
        texts = malloc((size_t)s->name.n + s->tenant.n + 1);
        if (more)
                w->found = more;
        if (!more || !texts) {
                free(texts);
                return STORE_E_FAILED;
        }
        memcpy(texts, s->name.p, s->name.n);
        memcpy(texts + s->name.n, s->tenant.p, s->tenant.n);
        more[w->n_found] = *s;
        more[w->n_found].name.p = texts;
        more[w->n_found++].tenant.p = texts + s->name.n;
        return 0;
}

static void walk_clear(struct walk *w) {
        for (size_t i = 0; i < w->n_found; i++)
                free((char *)(uintptr_t)w->found[i].name.p);
        free(w->found);
        w->found = NULL;
        w->n_found = 0;
}

static int failed(const struct store *store, const struct sessions_options *options) {
        cli_error("sessions", "%s: %s", options->database, store_why(store));
        return CLI_FAILED;
}

static int no_session(const char *name) {
        cli_error("sessions", "%s: no session has this name", name);
        return CLI_FAILED;
}

/* ---- verbs --------------------------------------------------------------------------------- */

static int run_list(struct store *store, const struct sessions_options *options) {
        struct walk w = {.options = options, .print = true};

        return sessions_each(store, note, &w) ? failed(store, options) : CLI_DONE;
}

struct showing {
        bool json;
        const char *before;
};

static int show_exchange(void *ctx, const struct sessions_exchange *e) {
        struct showing *s = ctx;

        if (s->json)
                printf("%s%.*s,%.*s", s->before, (int)e->asked.n, e->asked.p, (int)e->answer.n,
                                e->answer.p);
        else
                printf("turn %llu of %.*s\n%.*s\n%.*s\n", (unsigned long long)e->turn, (int)e->id.n,
                                e->id.p, (int)e->asked.n, e->asked.p, (int)e->answer.n, e->answer.p);
        s->before = ",";
        return 0;
}

/* Of several tenants one must be named. */
static int show_found(struct store *store, const struct sessions_options *options, const struct walk *w) {
        struct showing showing = {.json = options->json, .before = ""};
        const struct sessions_session *s = w->found;
        int r;

        if (w->n_found == 0)
                return no_session(options->names[0]);
        if (w->n_found > 1) {
                cli_error("sessions", "%s: several tenants have a session of this name: use --tenant",
                                options->names[0]);
                return CLI_USAGE;
        }
        if (options->json) {
                putchar('{');
                print_members(s);
                printf(",\"messages\":[");
        }
        r = sessions_exchanges(store, s->n, 0, show_exchange, &showing);
        if (options->json)
                printf("]}\n");
        return r ? failed(store, options) : CLI_DONE;
}

static int run_show(struct store *store, const struct sessions_options *options) {
        struct walk w = {.options = options, .name = options->names[0]};
        int r = sessions_each(store, note, &w);

        r = r ? failed(store, options) : show_found(store, options, &w);
        walk_clear(&w);
        return r;
}

static int drop_found(struct store *store, const struct walk *w) {
        int r = store_run(store, SQL_BEGIN);

        if (r)
                return r;
        for (size_t i = 0; r == 0 && i < w->n_found; i++)
                r = sessions_drop(store, w->found[i].n);
        if (r == 0)
                r = store_run(store, SQL_COMMIT);
        if (r)
                (void)store_rollback(store);
        return r;
}

static int run_drop(struct store *store, const struct sessions_options *options) {
        int exit_code = CLI_DONE, r = 0;
        size_t dropped = 0;

        for (int i = 0; r == 0 && (i < options->n_names || (options->all && i == 0)); i++) {
                struct walk w = {.options = options,
                                .name = options->all ? NULL : options->names[i]};
                r = sessions_each(store, note, &w);
                if (r == 0 && w.n_found)
                        r = drop_found(store, &w);
                if (r == 0 && !w.n_found && !options->all)
                        exit_code = no_session(options->names[i]);
                dropped += r ? 0 : w.n_found;
                walk_clear(&w);
        }
        if (r)
                exit_code = failed(store, options);
        printf(options->json ? "{\"dropped\":%zu}\n" : "dropped %zu\n", dropped);
        return exit_code;
}

/* ---- options ------------------------------------------------------------------------------- */

struct verb {
        const char *name;
        int least, most; /* names; most -1: any number */
        int (*run)(struct store *store, const struct sessions_options *options);
};

static const struct verb verbs[] = {
                {"list", 0, 0, run_list},
                {"show", 1, 1, run_show},
                {"drop", 1, -1, run_drop},
};

/* -1: go on. Otherwise the exit code. */
static int parse(int argc, char **argv, struct sessions_options *options, const char **ret_config) {
        static const struct option names[] = {
                        {"config", required_argument, NULL, 'c'},
                        {"database", required_argument, NULL, 'd'},
                        {"tenant", required_argument, NULL, 't'},
                        {"json", no_argument, NULL, 'j'},
                        {"all", no_argument, NULL, 'a'},
                        {"help", no_argument, NULL, 'h'},
                        {0},
        };
        int c;

        optind = 0; /* glibc: start anew, whatever was parsed before */
        while ((c = getopt_long(argc, argv, "c:h", names, NULL)) != -1) {
                if (c == 'h') {
                        fputs(usage, stdout);
                        return CLI_DONE;
                }
                if (c == 'c')
                        *ret_config = optarg;
                else if (c == 'd')
                        options->database = optarg;
                else if (c == 't')
                        options->tenant = optarg;
                else if (c == 'j')
                        options->json = true;
                else if (c == 'a')
                        options->all = true;
                else
                        return CLI_USAGE;
        }
        if (optind < argc)
                return -1;
        fputs(usage, stderr);
        return CLI_USAGE;
}

static const struct verb *find_verb(const char *name) {
        for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        return NULL;
}

static int check(const struct verb *verb, const struct sessions_options *options) {
        int least = options->all ? 0 : verb->least, most = options->all ? 0 : verb->most;

        if (options->all && verb->run != run_drop)
                cli_error("sessions", "--all belongs to drop");
        else if (options->n_names < least || (most >= 0 && options->n_names > most))
                cli_error("sessions", "%s takes %s", verb->name,
                                most == 0 ? "no sessions"
                                          : most == 1 ? "one session" : "at least one session");
        else
                return CLI_DONE;
        return CLI_USAGE;
}

/* A file that is not there has no sessions; but one that was named should be. */
static int without(const struct verb *verb, const struct sessions_options *options, bool named) {
        if (named) {
                cli_error("sessions", "%s: no such database", options->database);
                return CLI_FAILED;
        }
        for (int i = 0; i < options->n_names; i++)
                (void)no_session(options->names[i]);
        if (verb->run == run_drop && options->all)
                printf(options->json ? "{\"dropped\":0}\n" : "dropped 0\n");
        return options->n_names > 0 ? CLI_FAILED : CLI_DONE;
}

static int run(const struct verb *verb, const struct sessions_options *options, bool named) {
        struct store_options open = {.path = options->database, .leave = true};
        char aside[STORE_WHY_MAX], why[STORE_WHY_MAX];
        struct store store;
        int r = store_open(&open, &store, aside, why);

        if (r == STORE_E_NONE)
                return without(verb, options, named);
        if (r) {
                cli_error("sessions", "%s: %s", options->database, why);
                return CLI_FAILED;
        }
        r = verb->run(&store, options);
        store_close(&store);
        return r;
}

int cmd_sessions(int argc, char **argv) {
        struct sessions_options options = {.json = false};
        const char *config = NULL;
        char path[PATH_MAX];
        bool named;
        int r = parse(argc, argv, &options, &config);

        if (r >= 0)
                return r;
        const struct verb *verb = find_verb(argv[optind]);
        if (!verb) {
                cli_error("sessions", "%s: list, show or drop was expected", argv[optind]);
                return CLI_USAGE;
        }
        options.names = argv + optind + 1;
        options.n_names = argc - optind - 1;
        r = check(verb, &options);
        named = options.database != NULL;
        if (r == CLI_DONE && !named)
                r = plain_database("sessions", config, "no conversation is kept", path);
        if (r != CLI_DONE)
                return r;
        if (!named)
                options.database = path;
        return run(verb, &options, named);
}
