/*
 * cli -- what the commands of `millrace` share: exit codes, messages, JSON on stdout.
 *
 * Shape   one file per command, one function `int cmd_NAME(int argc, char **argv)` with argv[0] = NAME
 * Errors  commands return an enum cli_exit; messages go to stderr as `millrace NAME: …`
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "millrace/client.h"

enum cli_exit {
        CLI_DONE = 0,
        CLI_FAILED = 1,
        CLI_USAGE = 2,
        CLI_UNREACHABLE = 3,
        CLI_INTERRUPTED = 130, /* as a shell says of who died of SIGINT */
};

int cmd_run(int argc, char **argv);
int cmd_submit(int argc, char **argv);
int cmd_result(int argc, char **argv);
int cmd_cancel(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_restart(int argc, char **argv);
int cmd_reload(int argc, char **argv);
int cmd_drain(int argc, char **argv);
int cmd_dlq(int argc, char **argv);
int cmd_sessions(int argc, char **argv);
int cmd_index(int argc, char **argv);
int cmd_redact(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_render(int argc, char **argv);
int cmd_count(int argc, char **argv);

/* `millrace NAME: …` on stderr. */
__attribute__((format(printf, 2, 3))) void cli_error(const char *command, const char *format, ...);
/* Prints the usage line of a command on stderr and returns CLI_USAGE. */
int cli_usage(const char *command);
/* Prints it on stdout (for --help) and returns CLI_DONE. */
int cli_help(const char *command);

/* Connects or says why not: CLI_DONE, or what to exit with. */
int cli_connect(const char *command, const char *socket, struct millrace **ret);

/* A client call failed (status of client.h): says so and returns the exit code. */
int cli_client_failed(const char *command, int status);

/* One msgpack value as one line of JSON on stdout, flushed. False: not understood. */
bool cli_print_json(const void *msgpack, size_t n);

/* Reads a whole file, "-": stdin; at most `most` bytes. NULL with a message on stderr, else to free(). */
char *cli_read_file(const char *command, const char *path, size_t most, size_t *ret_n);
/* The same of what is open already. */
char *cli_read_stream(
                const char *command, FILE *from, const char *name, size_t most, size_t *ret_n);
