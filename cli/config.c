/*
 * config -- `millrace config`: the settings, as they are by default or as a file leaves them.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "supervisor/config.h"

enum mode { MODE_EFFECTIVE, MODE_DEFAULTS, MODE_SCHEMA, MODE_MANUAL };

struct options {
        enum mode mode;
        bool json;
        const char *file;
        const char **sets;
        unsigned n_sets;
};

static const char usage[] =
        "usage: millrace config [--defaults | --schema | --effective | --manual] [-c FILE]\n"
        "                       [--set key.path=VALUE]... [--json]\n"
        "  --effective          what holds with this file and these --set (without another word)\n"
        "  --defaults           every key with its default and a sentence\n"
        "  --schema             the JSON Schema of the file\n"
        "  --manual             the manual of all keys, in Markdown\n"
        "  -c, --config FILE    the configuration\n"
        "  --set key.path=VALUE one value, as YAML, over the file; repeatable\n"
        "  --json               settings as one JSON object\n";

static void freep(const char ***sets) {
        free((void *)*sets);
}

static int load(const struct options *options, struct settings **ret) {
        struct config_error err;
        int r;

        if (options->mode == MODE_DEFAULTS) {
                r = settings_default(ret);
                if (r)
                        cli_error("config", "%s", strerror(-r));
                return r ? CLI_FAILED : CLI_DONE;
        }
        r = config_load(options->file, options->sets, options->n_sets, ret, &err);
        if (r)
                cli_error("config", "%s", err.line);
        if (r == 0)
                return CLI_DONE;
        return r == CONFIG_E_INVALID ? CLI_USAGE : CLI_FAILED;
}

static int print(const struct options *options) {
        __attribute__((cleanup(settings_freep))) struct settings *s = NULL;
        int r;

        if (options->mode == MODE_SCHEMA) {
                r = config_print_schema(stdout);
        } else if (options->mode == MODE_MANUAL) {
                r = config_print_manual(stdout);
        } else {
                r = load(options, &s);
                if (r)
                        return r;
                r = options->json ? config_print_json(stdout, s)
                                  : config_print_yaml(stdout, s, options->mode == MODE_DEFAULTS);
        }
        if (r == 0 && fflush(stdout) != 0)
                r = -errno;
        if (r)
                cli_error("config", "cannot write: %s", strerror(-r));
        return r ? CLI_FAILED : CLI_DONE;
}

/* -1: go on; else the exit code. */
static int read_options(int argc, char **argv, struct options *ret) {
        static const struct option names[] = {
                {"defaults", no_argument, NULL, 'd'},  {"schema", no_argument, NULL, 'j'},
                {"effective", no_argument, NULL, 'e'}, {"manual", no_argument, NULL, 'm'},
                {"config", required_argument, NULL, 'c'}, {"set", required_argument, NULL, 's'},
                {"json", no_argument, NULL, 'J'},      {"help", no_argument, NULL, 'h'},
                {0},
        };
        unsigned n_modes = 0;
        int c;

        optind = 0;
        while ((c = getopt_long(argc, argv, "c:h", names, NULL)) != -1) {
                switch (c) {
                case 'd':
                case 'j':
                case 'e':
                case 'm':
                        n_modes++;
                        ret->mode = c == 'd'   ? MODE_DEFAULTS
                                    : c == 'j' ? MODE_SCHEMA
                                    : c == 'm' ? MODE_MANUAL
                                               : MODE_EFFECTIVE;
                        break;
                case 'c':
                        ret->file = optarg;
                        break;
                case 's':
                        ret->sets[ret->n_sets++] = optarg;
                        break;
                case 'J':
                        ret->json = true;
                        break;
                case 'h':
                        fputs(usage, stdout);
                        return CLI_DONE;
                default:
                        fputs(usage, stderr);
                        return CLI_USAGE;
                }
        }
        if (optind == argc && n_modes <= 1)
                return -1;
        if (optind < argc)
                cli_error("config", "unexpected argument `%s`", argv[optind]);
        else
                cli_error("config", "choose one of --defaults, --schema, --effective, --manual");
        fputs(usage, stderr);
        return CLI_USAGE;
}

int cmd_config(int argc, char **argv) {
        __attribute__((cleanup(freep))) const char **sets =
                calloc((size_t)argc, sizeof(*sets)); /* fewer than arguments */
        struct options options = {.sets = sets};
        int r;

        if (!sets) {
                cli_error("config", "%s", strerror(ENOMEM));
                return CLI_FAILED;
        }
        r = read_options(argc, argv, &options);
        return r >= 0 ? r : print(&options);
}
