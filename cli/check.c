/*
 * check -- `millrace check`: is the file right, and can the machine do what it asks for?
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cli/check_cmd.h"
#include "cli/cli.h"
#include "supervisor/config.h"
#include "supervisor/config_print.h"


struct options {
        const char *file;
        const char **sets;
        unsigned n_sets;
};

static const char usage[] =
        "usage: millrace check [FILE] [--connect] [--set key.path=VALUE]... [--json]\n"
        "  FILE                 the configuration; without it the defaults are looked at\n"
        "  --connect            also connect to each backend\n"
        "  --set key.path=VALUE one value, as YAML, over the file; repeatable\n"
        "  --json               one JSON object for each finding\n"
        "exit: 0 all is well, 1 the machine lacks something, 2 the file is wrong\n";

static const char *const state_words[] = {
        [CHECK_OK] = "ok", [CHECK_WARN] = "warn", [CHECK_BAD] = "bad"};

static void freep(const char ***sets) {
        free((void *)*sets);
}

void check_finding(struct check_run *run, enum check_state state, const char *what,
                   const char *remedy, const char *format, ...) {
        char found[CHECK_TEXT_MAX];
        va_list args;

        va_start(args, format);
        vsnprintf(found, sizeof(found), format, args);
        va_end(args);
        run->n_bad += state == CHECK_BAD;
        if (!run->json) {
                printf("%-4s  %-10s  %s\n", state_words[state], what, found);
                if (remedy)
                        printf("      %-10s  remedy: %s\n", "", remedy);
                return;
        }
        printf("{\"check\":\"%s\",\"state\":\"%s\",\"found\":", what, state_words[state]);
        config_print_text(stdout, found);
        fputs(",\"remedy\":", stdout);
        if (remedy)
                config_print_text(stdout, remedy);
        else
                fputs("null", stdout);
        fputs("}\n", stdout);
        fflush(stdout);
}

/* A lock that cannot be taken is held by a supervisor or one of its workers. */
static bool instance_runs(const char *instance) {
        char path[128];
        bool held;
        int fd;

        snprintf(path, sizeof(path), "/dev/shm/millrace.%u.%s.lock", (unsigned)getuid(), instance);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return false;
        held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        close(fd);
        return held;
}

static int look(const struct options *options, struct check_run *run) {
        __attribute__((cleanup(settings_freep))) struct settings *s = NULL;
        const char *name = options->file ? options->file : "no file, the defaults";
        struct config_error err;
        int r;

        r = config_load_to_run(options->file, options->sets, options->n_sets, &s, &err);
        if (r) {
                if (run->json)
                        check_finding(run, CHECK_BAD, "file", NULL, "%s", err.line);
                cli_error("check", "%s", err.line);
                return r == CONFIG_E_INVALID ? CLI_USAGE : CLI_FAILED;
        }
        run->running = instance_runs(s->instance);
        check_finding(run, CHECK_OK, "file", NULL, "%s: %u workers, %u models%s%s%s", name,
                      s->inference.workers.n, s->inference.models.n,
                      run->running ? "; instance " : "", run->running ? s->instance : "",
                      run->running ? " is running" : "");
        check_machine(run, s);
        check_ports(run, s);
        if (run->connect)
                check_backends(run, s);
        return run->n_bad ? CLI_FAILED : CLI_DONE;
}

/* -1: go on; else the exit code. */
static int read_options(int argc, char **argv, struct options *ret, struct check_run *run) {
        static const struct option names[] = {
                {"config", required_argument, NULL, 'c'}, {"connect", no_argument, NULL, 'C'},
                {"set", required_argument, NULL, 's'},    {"json", no_argument, NULL, 'J'},
                {"help", no_argument, NULL, 'h'},         {0},
        };
        int c;

        optind = 0;
        while ((c = getopt_long(argc, argv, "c:h", names, NULL)) != -1) {
                switch (c) {
                case 'c':
                        ret->file = optarg;
                        break;
                case 'C':
                        run->connect = true;
                        break;
                case 's':
                        ret->sets[ret->n_sets++] = optarg;
                        break;
                case 'J':
                        run->json = true;
                        break;
                case 'h':
                        fputs(usage, stdout);
                        return CLI_DONE;
                default:
                        fputs(usage, stderr);
                        return CLI_USAGE;
                }
        }
        if (optind < argc && !ret->file)
                ret->file = argv[optind++];
        if (optind == argc)
                return -1;
        cli_error("check", "unexpected argument `%s`", argv[optind]);
        fputs(usage, stderr);
        return CLI_USAGE;
}

int cmd_check(int argc, char **argv) {
        __attribute__((cleanup(freep))) const char **sets =
                calloc((size_t)argc, sizeof(*sets)); /* fewer than arguments */
        struct options options = {.sets = sets};
        struct check_run run = {0};
        int r;

        if (!sets) {
                cli_error("check", "%s", strerror(ENOMEM));
                return CLI_FAILED;
        }
        r = read_options(argc, argv, &options, &run);
        if (r < 0)
                r = look(&options, &run);
        if (fflush(stdout) != 0 && r == CLI_DONE) {
                cli_error("check", "cannot write: %s", strerror(errno));
                r = CLI_FAILED;
        }
        return r;
}
