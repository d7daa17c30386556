/*
 * millrace -- the command: finds what is asked for and does it.
 */
#include <errno.h>
#include <string.h>

#include "cli/cli.h"

#define DAEMON "[-s SOCKET] "

static const struct command {
        const char *name;
        int (*run)(int argc, char **argv);
        const char *usage; /* NULL: it has a text of its own */
        const char *sentence;
} commands[] = {
                {"run", cmd_run, NULL, "the daemon, in the foreground"},
                {"submit", cmd_submit,
                                DAEMON "[--session S] [--model M] [--system TEXT] [--template T] "
                                       "[--var k=v]... [--priority P]\n"
                                       "                [--deadline MS] [--rag on|off] [--id ID]\n"
                                       "                [--rag-collections NAME,...] "
                                       "[--rag-filter KEY=VALUE,...]\n                "
                                       "[--request FILE] [--detach] [--json] [TEXT|-]",
                                "one request; the answer streams to stdout"},
                {"result", cmd_result, DAEMON "[--wait] [--json] ID",
                                "the answer of an earlier request"},
                {"cancel", cmd_cancel, DAEMON "[--json] ID", "ends a request, wherever it is"},
                {"status", cmd_status, DAEMON "[--json]", "the tree of processes"},
                {"restart", cmd_restart, DAEMON "[--lane N] [--exe DIR] [--json] STAGE|all",
                                "restarts processes and loses nothing"},
                {"reload", cmd_reload, DAEMON "[--json]",
                                "validates and applies the changed configuration"},
                {"drain", cmd_drain, DAEMON "[--timeout MS] [--json]",
                                "stops admitting, finishes everything, ends the daemon"},
                {"dlq", cmd_dlq, NULL, "requests that were given up"},
                {"sessions", cmd_sessions, NULL, "kept conversations"},
                {"index", cmd_index, NULL, "the document index"},
                {"render", cmd_render, NULL, "a template, rendered with data"},
                {"count", cmd_count, NULL, "how many tokens a text is"},
                {"redact", cmd_redact, NULL, "finds and replaces personal data in a text"},
                {"config", cmd_config, NULL, "the settings"},
                {"check", cmd_check, NULL, "validates a file and looks at the machine"},
};
#define COMMANDS_N (sizeof(commands) / sizeof(commands[0]))

static const struct command *find(const char *name) {
        for (size_t i = 0; i < COMMANDS_N; i++)
                if (strcmp(commands[i].name, name) == 0)
                        return &commands[i];
        return NULL;
}

static void print_usage(FILE *to, const char *name) {
        const struct command *command = find(name);

        fprintf(to, "usage: millrace %s %s\n", name,
                        command && command->usage ? command->usage : "");
}

int cli_usage(const char *command) {
        print_usage(stderr, command);
        return CLI_USAGE;
}

int cli_help(const char *command) {
        const struct command *c = find(command);

        print_usage(stdout, command);
        if (c)
                printf("\n  %s\n\nSee millrace(1).\n", c->sentence);
        return CLI_DONE;
}

static int help(FILE *to) {
        fprintf(to, "usage: millrace COMMAND [OPTIONS] [ARGS]\n\n");
        for (size_t i = 0; i < COMMANDS_N; i++)
                fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].sentence);
        fprintf(to, "\n`millrace COMMAND --help` says more, millrace(1) everything.\n");
        return to == stdout ? CLI_DONE : CLI_USAGE;
}

static int version(void) {
#ifdef MR_FAULTS
        printf("millrace " MILLRACE_VERSION " faults: on\n");
#else
        printf("millrace " MILLRACE_VERSION "\n");
#endif
        return CLI_DONE;
}

static int run(int argc, char **argv) {
        const struct command *command;

        if (argc < 2)
                return help(stderr);
        if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0 ||
                        strcmp(argv[1], "help") == 0)
                return help(stdout);
        if (strcmp(argv[1], "--version") == 0)
                return version();
        command = find(argv[1]);
        if (!command) {
                fprintf(stderr, "millrace: there is no command '%s'\n", argv[1]);
                return help(stderr);
        }
        for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++)
                if (strcmp(argv[i], "--version") == 0)
                        return version();
        return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv) {
        int r = run(argc, argv);

        errno = 0; /* of an earlier failure nobody knows any more why it was */
        if ((fflush(stdout) != 0 || ferror(stdout)) && r == CLI_DONE) {
                fprintf(stderr, "millrace: cannot write the result: %s\n",
                                errno ? strerror(errno) : "the output is incomplete");
                r = CLI_FAILED;
        }
        return r;
}
