/*
 * index -- `millrace index`: its options, and the verbs list, remove and stats.
 */
#include "cli/index_cmd.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stages/common/state_path.h"

#define K_DEFAULT 10u
#define LOCK_TRIES 25
#define LOCK_PAUSE_NS 200000000L

static const char usage[] =
                "usage: millrace index [--index DIR] [--json] VERB ...\n"
                "  add PATH...          index .txt .md .html and .jsonl files, folders, or - "
                "(standard input)\n"
                "  search [-k N] QUERY  the best N passages (10), at most one of each document\n"
                "  search --queries F   the same for each row {\"id\",\"text\"} of a JSONL file (- "
                "for stdin)\n"
                "  list                 the documents\n"
                "  remove ID...         take documents out\n"
                "  stats                how much there is\n"
                "  --collection NAME    put documents there, or look only there (search: in "
                "several)\n"
                "  --tenant NAME        of documents that this tenant alone finds\n"
                "  --filter KEY=VALUE   search: only documents with this in their metadata\n"
                "  --expand             search: with words of the best passages too\n"
                "  --meta KEY=VALUE     add: give documents this metadata, unless they have their own\n"
                "  --language NAME      add: whose stems a new index has (english)\n"
                "  -c, --config FILE    add, search: with the services of rag.embeddings and "
                "rag.rerank\n"
                "  --index DIR          the index (default: main.index in $STATE_DIRECTORY, else "
                "in\n"
                "                       $XDG_STATE_HOME/millrace or ~/.local/state/millrace)\n"
                "  --json               results for programs: one JSON object a line\n";

int index_complain_of(const char *path, int code, const struct index_error *err) {
        if (code == INDEX_E_MISSING)
                cli_error("index", "%s: %s; make one with: millrace index add PATH...", path,
                                err->text);
        else
                cli_error("index", "%s: %s", path, err->text);
        return CLI_FAILED;
}

int index_cmd_writer(const struct index_options *options, struct index_error *err,
                struct index_writer **ret_writer) {
        const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
        int r = index_writer_open(options->path, options->language, err, ret_writer);

        for (int i = 0; r == INDEX_E_LOCKED && i < LOCK_TRIES && !index_interrupted(); i++) {
                nanosleep(&pause, NULL);
                r = index_writer_open(options->path, options->language, err, ret_writer);
        }
        return r;
}

struct index_key index_cmd_key(const struct index_options *options, struct index_str id) {
        struct index_key key = {.tenant = options->tenant, .id = id};

        if (options->n_collections > 0)
                key.collection = options->collections[0];
        return key;
}

/* ---- printing ------------------------------------------------------------------------------ */

void index_print_json(yajl_gen gen) {
        const unsigned char *text;
        size_t n;

        if (yajl_gen_get_buf(gen, &text, &n) == yajl_gen_status_ok) {
                fwrite(text, 1, n, stdout);
                fputc('\n', stdout);
                fflush(stdout);
        }
        yajl_gen_clear(gen);
        yajl_gen_reset(gen, NULL);
}

void index_gen_key(yajl_gen gen, const char *key) {
        yajl_gen_string(gen, (const unsigned char *)key, strlen(key));
}

void index_gen_str(yajl_gen gen, const char *key, struct index_str value) {
        index_gen_key(gen, key);
        yajl_gen_string(gen, (const unsigned char *)value.data, value.n_bytes);
}

void index_gen_u64(yajl_gen gen, const char *key, uint64_t value) {
        index_gen_key(gen, key);
        yajl_gen_integer(gen, value > LLONG_MAX ? LLONG_MAX : (long long)value);
}

void index_print_plain(FILE *to, struct index_str text) {
        bool blank = false;

        for (size_t i = 0; i < text.n_bytes; i++) {
                const unsigned char c = (unsigned char)text.data[i];
                const unsigned char next =
                                i + 1 < text.n_bytes ? (unsigned char)text.data[i + 1] : 0;
                const bool c1 = c == 0xc2 && next >= 0x80 && next < 0xa0;

                if (c <= ' ' || c == 0x7f || c1) {
                        i += c1;
                        blank = true;
                        continue;
                }
                if (blank)
                        fputc(' ', to);
                blank = false;
                fputc(c, to);
        }
}

/* ---- list, remove, stats ------------------------------------------------------------------- */

/* Where a document lies, unless it is where all are that nobody placed. */
static void print_place(const struct index_key *key) {
        if (strcmp(key->collection.data, INDEX_COLLECTION_DEFAULT) != 0) {
                fputs("  in ", stdout);
                index_print_plain(stdout, key->collection);
        }
        if (key->tenant.n_bytes > 0) {
                fputs("  of ", stdout);
                index_print_plain(stdout, key->tenant);
        }
}

static int print_entry(const struct index_entry *entry, void *ctx) {
        yajl_gen gen = ctx;

        if (gen) {
                yajl_gen_map_open(gen);
                index_gen_str(gen, "id", entry->key.id);
                index_gen_str(gen, "title", entry->title);
                index_gen_u64(gen, "chunks", entry->chunks);
                index_gen_u64(gen, "bytes", entry->bytes);
                if (strcmp(entry->key.collection.data, INDEX_COLLECTION_DEFAULT) != 0)
                        index_gen_str(gen, "collection", entry->key.collection);
                if (entry->key.tenant.n_bytes > 0)
                        index_gen_str(gen, "tenant", entry->key.tenant);
                yajl_gen_map_close(gen);
                index_print_json(gen);
        } else {
                printf("%8" PRIu64 " chunks %12" PRIu64 " bytes  ", entry->chunks, entry->bytes);
                index_print_plain(stdout, entry->key.id);
                fputs("  ", stdout);
                index_print_plain(stdout, entry->title);
                print_place(&entry->key);
                fputc('\n', stdout);
        }
        return ferror(stdout) ? -EIO : 0;
}

static int cmd_list(const struct index_options *options) {
        struct index_error err = {0};
        struct index_reader *reader = NULL;
        yajl_gen gen = options->json ? yajl_gen_alloc(NULL) : NULL;
        const struct index_list list = {
                        .collection = options->n_collections > 0 ? options->collections : NULL,
                        .tenant = options->tenant_given ? &options->tenant : NULL,
                        .fn = print_entry,
                        .ctx = gen};
        int r = index_reader_open(options->path, &err, &reader);

        if (r == 0)
                r = index_reader_list(reader, &list, &err);
        index_reader_free(reader);
        if (gen)
                yajl_gen_free(gen);
        return r == 0 || r == -EIO ? CLI_DONE : index_complain_of(options->path, r, &err);
}

static int cmd_stats(const struct index_options *options) {
        struct index_error err = {0};
        struct index_stats stats = {0};
        struct index_reader *reader = NULL;
        int r = index_reader_open(options->path, &err, &reader);

        if (r == 0)
                r = index_reader_stats(reader, &err, &stats);
        index_reader_free(reader);
        if (r != 0)
                return index_complain_of(options->path, r, &err);
        printf(options->json ? "{\"documents\":%" PRIu64 ",\"chunks\":%" PRIu64
                               ",\"bytes\":%" PRIu64 ",\"terms\":%" PRIu64 "}\n"
                             : "documents %" PRIu64 "\nchunks    %" PRIu64 "\nbytes     %" PRIu64
                               "\nterms     %" PRIu64 "\n",
                        stats.documents, stats.chunks, stats.bytes, stats.terms);
        return CLI_DONE;
}

static int remove_all(const struct index_options *options, struct index_writer *writer,
                struct index_error *err, int *ret_removed) {
        int n = 0;

        for (int i = 0; i < options->n_args; i++) {
                const struct index_key key = index_cmd_key(options,
                                (struct index_str){options->args[i], strlen(options->args[i])});
                bool removed = false;
                int r = index_writer_remove(writer, &key, err, &removed);

                if (r != 0)
                        return r;
                if (!removed)
                        cli_error("index", "%s: no document has this id", options->args[i]);
                n += removed;
        }
        *ret_removed = n;
        return index_writer_commit(writer, err);
}

static int cmd_remove(const struct index_options *options) {
        struct index_error err = {0};
        struct index_reader *reader = NULL;
        struct index_writer *writer = NULL;
        uint64_t n_vectors = 0;
        int removed = 0;
        int r = index_reader_open(options->path, &err, &reader); /* a writer would make one */

        index_reader_free(reader);
        if (r == 0)
                r = index_cmd_writer(options, &err, &writer);
        if (r == 0)
                r = remove_all(options, writer, &err, &removed);
        index_writer_free(writer);
        if (r != 0)
                return index_complain_of(options->path, r, &err);
        r = index_vectors_update(options, &n_vectors);
        if (r != CLI_DONE)
                return r;
        printf(options->json ? "{\"removed\":%d}\n" : "removed %d\n", removed);
        return removed == options->n_args ? CLI_DONE : CLI_FAILED;
}

/* ---- options ------------------------------------------------------------------------------- */

struct verb {
        const char *name;
        int least; /* arguments */
        int most;  /* -1: any number */
        int (*run)(const struct index_options *options);
};

static const struct verb verbs[] = {
                {"add", 1, -1, index_cmd_add},
                {"list", 0, 0, cmd_list},
                {"remove", 1, -1, cmd_remove},
                {"search", 0, -1, index_cmd_search},
                {"stats", 0, 0, cmd_stats},
};

static int parse_k(const char *text, uint32_t *ret_k) {
        char *end;
        unsigned long k = strtoul(text, &end, 10);

        if (text[0] < '0' || text[0] > '9' || *end != '\0' || k < 1 || k > INDEX_K_MAX) {
                cli_error("index", "-k %s: a number from 1 to %u was expected", text, INDEX_K_MAX);
                return CLI_USAGE;
        }
        *ret_k = (uint32_t)k;
        return 0;
}

/* The name of a collection or tenant. */
static int parse_name(const char *option, const char *text, size_t most, struct index_str *ret) {
        const size_t n = strlen(text);

        if (n == 0 || n > most) {
                cli_error("index", "%s: a name of 1 to %zu bytes was expected", option, most);
                return CLI_USAGE;
        }
        *ret = (struct index_str){text, n};
        return 0;
}

static int parse_collection(const char *text, struct index_options *options) {
        if (options->n_collections == INDEX_CMD_NAMES) {
                cli_error("index", "--collection: at most %u can be named", INDEX_CMD_NAMES);
                return CLI_USAGE;
        }
        return parse_name("--collection", text, INDEX_COLLECTION_MAX,
                        &options->collections[options->n_collections++]);
}

static int parse_pair(const char *option, const char *text, struct index_options *options) {
        const char *equals = strchr(text, '=');

        if (!equals || equals == text || options->n_pairs == INDEX_CMD_NAMES) {
                cli_error("index", "%s %s: up to %u times KEY=VALUE was expected", option, text,
                                INDEX_CMD_NAMES);
                return CLI_USAGE;
        }
        options->pairs[options->n_pairs++] =
                        (struct index_pair){{text, (size_t)(equals - text)},
                                        {equals + 1, strlen(equals + 1)}};
        return 0;
}

static int parse_option(int c, struct index_options *options) {
        switch (c) {
        case 'c':
                options->config = optarg;
                return 0;
        case 'e':
                options->expand = true;
                return 0;
        case 'f':
                options->filters = true;
                return parse_pair("--filter", optarg, options);
        case 'i':
                options->path = optarg;
                return 0;
        case 'o':
                return parse_collection(optarg, options);
        case 'j':
                options->json = true;
                return 0;
        case 'k':
                return parse_k(optarg, &options->k);
        case 'l':
                options->language = optarg;
                return 0;
        case 'm':
                options->meta = true;
                return parse_pair("--meta", optarg, options);
        case 'q':
                options->queries = optarg;
                return 0;
        case 't':
                options->tenant_given = true;
                return parse_name("--tenant", optarg, INDEX_TENANT_MAX, &options->tenant);
        default:
                return CLI_USAGE;
        }
}

/* -1: go on. Otherwise the exit code. */
static int parse_options(int argc, char **argv, struct index_options *options) {
        static const struct option names[] = {
                        {"collection", required_argument, NULL, 'o'},
                        {"config", required_argument, NULL, 'c'},
                        {"expand", no_argument, NULL, 'e'},
                        {"filter", required_argument, NULL, 'f'},
                        {"help", no_argument, NULL, 'h'},
                        {"index", required_argument, NULL, 'i'},
                        {"json", no_argument, NULL, 'j'},
                        {"language", required_argument, NULL, 'l'},
                        {"meta", required_argument, NULL, 'm'},
                        {"queries", required_argument, NULL, 'q'},
                        {"tenant", required_argument, NULL, 't'},
                        {0},
        };
        int c;

        optind = 0; /* glibc: start anew, whatever was parsed before */
        while ((c = getopt_long(argc, argv, "c:hk:", names, NULL)) != -1) {
                if (c == 'h') {
                        fputs(usage, stdout);
                        return CLI_DONE;
                }
                if (parse_option(c, options) != 0)
                        return CLI_USAGE;
        }
        return -1;
}

static const struct verb *find_verb(const char *name) {
        for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        return NULL;
}

static int check_arguments(const struct verb *verb, const struct index_options *options) {
        const bool search = verb->run == index_cmd_search;

        if (options->n_args < verb->least || (verb->most >= 0 && options->n_args > verb->most))
                cli_error("index", "%s takes %s", verb->name,
                                verb->most == 0 ? "no arguments" : "at least one argument");
        else if ((options->queries || options->expand || options->filters) && !search)
                cli_error("index", "--queries, --filter and --expand belong to search");
        else if (options->n_collections > 1 && !search)
                cli_error("index", "%s takes one --collection", verb->name);
        else if ((options->language || options->meta) && verb->run != index_cmd_add)
                cli_error("index", "--language and --meta belong to add");
        else if (search && (options->queries != NULL) == (options->n_args > 0))
                cli_error("index", "search takes a QUERY or --queries FILE");
        else
                return 0;
        return CLI_USAGE;
}

/* Where the configuration has it, else where the daemon without one would look. */
static int find_index(struct index_options *options, char path[static PATH_MAX]) {
        const struct settings *settings = options->services->settings;
        const char *named = settings ? settings->rag.index : "auto";

        if (options->path)
                return CLI_DONE;
        options->path = path;
        if (strcmp(named, "auto") != 0 && strcmp(named, "none") != 0) {
                options->path = named;
                return CLI_DONE;
        }
        if (state_default_path(settings ? settings->instance : "main", ".index", path, PATH_MAX) >=
                        0)
                return CLI_DONE;
        cli_error("index", "there is no home folder to keep an index in: use --index DIR");
        return CLI_USAGE;
}

static int run_verb(const struct verb *verb, struct index_options *options) {
        char path[PATH_MAX];
        struct index_services services = {0};
        int r = options->config ? index_services_open(options->config, &services) : CLI_DONE;

        options->services = &services;
        if (r == CLI_DONE)
                r = find_index(options, path);
        if (r == CLI_DONE)
                r = verb->run(options);
        index_services_close(&services);
        return r;
}

int cmd_index(int argc, char **argv) {
        struct index_options options = {.k = K_DEFAULT};
        int r = parse_options(argc, argv, &options);

        if (r >= 0)
                return r;
        if (optind == argc) {
                fputs(usage, stderr);
                return CLI_USAGE;
        }
        const struct verb *verb = find_verb(argv[optind]);
        if (!verb) {
                cli_error("index", "%s: add, search, list, remove or stats was expected",
                                argv[optind]);
                return CLI_USAGE;
        }
        options.args = argv + optind + 1;
        options.n_args = argc - optind - 1;
        r = check_arguments(verb, &options);
        if (r != 0)
                return r;
        r = run_verb(verb, &options);
        if (fflush(stdout) != 0 || ferror(stdout)) {
                cli_error("index", "cannot write the results: %s", strerror(errno));
                return CLI_FAILED;
        }
        return r;
}
