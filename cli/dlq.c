/*
 * dlq -- `millrace dlq`: requests that were given up, and what becomes of them.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli/dlq_cmd.h"
#include "cli/plain.h"

static const char usage[] =
                "usage: millrace dlq [-s SOCKET] [-c FILE | --database FILE] [--json] VERB ...\n"
                "  list                 the dead letters, the oldest first\n"
                "  show ID              everything about one, with the whole request\n"
                "  replay ID...         submit them again, detached, under new ids, and drop them\n"
                "  drop ID... | --all   forget them\n"
                "  -c, --config FILE    the daemon's configuration: which database it has\n"
                "  --database FILE      the database (default: main.db in $STATE_DIRECTORY, else in\n"
                "                       $XDG_STATE_HOME/millrace or ~/.local/state/millrace)\n"
                "  --json               results for programs: one JSON object a line\n";

static struct results_text text_of(const char *text) {
        return (struct results_text){text, (uint32_t)strlen(text)};
}

static int failed(const struct store *store, const struct dlq_options *options) {
        cli_error("dlq", "%s: %s", options->database, store_why(store));
        return CLI_FAILED;
}

/* ---- list and show ------------------------------------------------------------------------- */

struct printing {
        struct dlq_letter letter;
        bool json;
};

static int print_line(void *ctx, const struct letter *letter) {
        struct printing *p = ctx;

        dlq_letter_read(&p->letter, letter);
        dlq_letter_print_line(&p->letter, p->json);
        return 0;
}

static int print_whole(void *ctx, const struct letter *letter) {
        struct printing *p = ctx;

        dlq_letter_read(&p->letter, letter);
        dlq_letter_print(&p->letter, p->json);
        return 0;
}

static int run_list(struct store *store, const struct dlq_options *options) {
        struct printing p = {.json = options->json};
        int r = dlq_letter_init(&p.letter);

        if (r < 0)
                return cli_client_failed("dlq", r);
        r = letters_each(store, print_line, &p);
        dlq_letter_close(&p.letter);
        return r ? failed(store, options) : CLI_DONE;
}

static int no_letter(const char *id) {
        cli_error("dlq", "%s: no dead letter has this id", id);
        return CLI_FAILED;
}

static int run_show(struct store *store, const struct dlq_options *options) {
        struct printing p = {.json = options->json};
        int r = dlq_letter_init(&p.letter);

        if (r < 0)
                return cli_client_failed("dlq", r);
        r = letters_find(store, text_of(options->ids[0]), print_whole, &p);
        dlq_letter_close(&p.letter);
        if (r == STORE_E_NONE)
                return no_letter(options->ids[0]);
        return r ? failed(store, options) : CLI_DONE;
}

/* ---- drop ---------------------------------------------------------------------------------- */

struct numbers {
        int64_t *n;
        size_t count, room;
};

static int note_number(void *ctx, const struct letter *letter) {
        struct numbers *to = ctx;

        if (to->count == to->room) {
                size_t room = to->room ? to->room * 2 : 64;
                int64_t *more = realloc(to->n, room * sizeof(*more));

                if (!more)
                        return STORE_E_FAILED;
                to->n = more;
                to->room = room;
        }
        to->n[to->count++] = letter->n;
        return 0;
}

/* Several letters may have one id, years apart: all of them go. */
static int note_id(struct store *store, const char *id, struct numbers *to) {
        size_t before = to->count;
        int r;

        while ((r = letters_find(store, text_of(id), note_number, to)) == 0) {
                r = letters_drop(store, to->n[to->count - 1]);
                if (r)
                        return r;
        }
        return r == STORE_E_NONE && to->count > before ? 0 : r;
}

static int drop_all(struct store *store, struct numbers *to) {
        int r = letters_each(store, note_number, to);

        for (size_t i = 0; r == 0 && i < to->count; i++) {
                r = letters_drop(store, to->n[i]);
                if (r == STORE_E_NONE) /* somebody else was faster */
                        r = 0;
        }
        return r;
}

static int run_drop(struct store *store, const struct dlq_options *options) {
        struct numbers dropped = {.n = NULL};
        int exit_code = CLI_DONE, r = options->all ? drop_all(store, &dropped) : 0;

        for (int i = 0; r == 0 && i < options->n_ids; i++) {
                r = note_id(store, options->ids[i], &dropped);
                if (r != STORE_E_NONE)
                        continue;
                exit_code = no_letter(options->ids[i]);
                r = 0;
        }
        if (r)
                exit_code = failed(store, options);
        printf(options->json ? "{\"dropped\":%zu}\n" : "dropped %zu\n", dropped.count);
        free(dropped.n);
        return exit_code;
}

/* ---- options ------------------------------------------------------------------------------- */

struct verb {
        const char *name;
        int least, most; /* ids; most -1: any number */
        int (*run)(struct store *store, const struct dlq_options *options);
};

static const struct verb verbs[] = {
                {"list", 0, 0, run_list},
                {"show", 1, 1, run_show},
                {"replay", 1, -1, dlq_replay},
                {"drop", 1, -1, run_drop},
};

/* -1: go on. Otherwise the exit code. */
static int parse(int argc, char **argv, struct dlq_options *options, const char **ret_config) {
        static const struct option names[] = {
                        {"socket", required_argument, NULL, 's'},
                        {"config", required_argument, NULL, 'c'},
                        {"database", required_argument, NULL, 'd'},
                        {"json", no_argument, NULL, 'j'},
                        {"all", no_argument, NULL, 'a'},
                        {"help", no_argument, NULL, 'h'},
                        {0},
        };
        int c;

        optind = 0; /* glibc: start anew, whatever was parsed before */
        while ((c = getopt_long(argc, argv, "s:c:h", names, NULL)) != -1) {
                if (c == 'h') {
                        fputs(usage, stdout);
                        return CLI_DONE;
                }
                if (c == 's')
                        options->socket = optarg;
                else if (c == 'c')
                        *ret_config = optarg;
                else if (c == 'd')
                        options->database = optarg;
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

static int check(const struct verb *verb, const struct dlq_options *options) {
        int least = options->all ? 0 : verb->least, most = options->all ? 0 : verb->most;

        if (options->all && verb->run != run_drop)
                cli_error("dlq", "--all belongs to drop");
        else if (options->n_ids < least || (most >= 0 && options->n_ids > most))
                cli_error("dlq", "%s takes %s", verb->name,
                                most == 0 ? "no ids" : most == 1 ? "one id" : "at least one id");
        else
                return CLI_DONE;
        return CLI_USAGE;
}

/* A file that is not there has no letters; but one that was named should be. */
static int without(const struct verb *verb, const struct dlq_options *options, bool named) {
        if (named) {
                cli_error("dlq", "%s: no such database", options->database);
                return CLI_FAILED;
        }
        for (int i = 0; i < options->n_ids; i++)
                (void)no_letter(options->ids[i]);
        if (verb->run == run_drop && options->all)
                printf(options->json ? "{\"dropped\":0}\n" : "dropped 0\n");
        return options->n_ids > 0 ? CLI_FAILED : CLI_DONE;
}

static int run(const struct verb *verb, const struct dlq_options *options, bool named) {
        struct store_options open = {.path = options->database, .leave = true};
        char aside[STORE_WHY_MAX], why[STORE_WHY_MAX];
        struct store store;
        int r = store_open(&open, &store, aside, why);

        if (r == STORE_E_NONE)
                return without(verb, options, named);
        if (r) {
                cli_error("dlq", "%s: %s", options->database, why);
                return CLI_FAILED;
        }
        r = verb->run(&store, options);
        store_close(&store);
        return r;
}

int cmd_dlq(int argc, char **argv) {
        struct dlq_options options = {.json = false};
        const char *config = NULL;
        char path[PATH_MAX];
        bool named;
        int r = parse(argc, argv, &options, &config);

        if (r >= 0)
                return r;
        const struct verb *verb = find_verb(argv[optind]);
        if (!verb) {
                cli_error("dlq", "%s: list, show, replay or drop was expected", argv[optind]);
                return CLI_USAGE;
        }
        options.ids = argv + optind + 1;
        options.n_ids = argc - optind - 1;
        r = check(verb, &options);
        named = options.database != NULL;
        if (r == CLI_DONE && !named)
                r = plain_database("dlq", config, "dead letters are only counted", path);
        if (r != CLI_DONE)
                return r;
        if (!named)
                options.database = path;
        return run(verb, &options, named);
}
