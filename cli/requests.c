/*
 * millrace result, millrace cancel -- what can be asked of a request that was submitted before.
 */
#include <getopt.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

#define ANSWER_MS 10000
#define POLL_MS 100
#define TRIES 50

struct ask {
        const char *command, *socket, *id;
        bool json, wait;
};

static const struct option options[] = {
                {"socket", required_argument, NULL, 's'},
                {"json", no_argument, NULL, 'j'},
                {"wait", no_argument, NULL, 'w'},
                {"help", no_argument, NULL, 'h'},
                {0},
};

static int parse(struct ask *ask, int argc, char **argv) {
        int option;

        ask->command = argv[0];
        while ((option = getopt_long(argc, argv, "s:h", options, NULL)) != -1) {
                if (option == 's')
                        ask->socket = optarg;
                else if (option == 'j')
                        ask->json = true;
                else if (option == 'w' && strcmp(argv[0], "result") == 0)
                        ask->wait = true;
                else if (option == 'h')
                        return -1;
                else
                        return cli_usage(argv[0]);
        }
        if (argc - optind != 1)
                return cli_usage(argv[0]);
        ask->id = argv[optind];
        return CLI_DONE;
}

static void pause_ms(long ms) {
        nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

static int ask_once(const struct ask *ask, struct millrace *m, struct millrace_event *ev) {
        int r = strcmp(ask->command, "cancel") == 0 ? millrace_cancel(m, ask->id)
                                                    : millrace_result(m, ask->id);

        return r ? r : millrace_next(m, ANSWER_MS, ev);
}

/* The one answer to what is asked. A gateway that is replaced closes its connections, one that dies
 * loses them; to ask again changes nothing. */
static int answer(const struct ask *ask, struct millrace **m, struct millrace_event *ev) {
        int r = ask_once(ask, *m, ev);

        for (int i = 0; i < TRIES && (r == MILLRACE_E_CLOSED || r == MILLRACE_E_UNREACHABLE); i++) {
                if (i > 0)
                        pause_ms(POLL_MS);
                millrace_close(*m);
                *m = NULL;
                r = millrace_connect(m, ask->socket);
                if (!r)
                        r = ask_once(ask, *m, ev);
        }
        if (r)
                return cli_client_failed(ask->command, r);
        if (ev->kind == MILLRACE_ERROR) {
                if (ask->json)
                        cli_print_json(ev->raw, ev->raw_len);
                cli_error(ask->command, "%s: %s", ev->code ? ev->code : "error",
                                ev->message ? ev->message : "");
                return CLI_FAILED;
        }
        return CLI_DONE;
}

static bool is_running(const struct millrace_event *ev) {
        return ev->state && (strcmp(ev->state, "queued") == 0 || strcmp(ev->state, "running") == 0);
}

static int print_result(const struct ask *ask, const struct millrace_event *ev) {
        bool completed = ev->state && strcmp(ev->state, "completed") == 0;

        if (ask->json) {
                cli_print_json(ev->raw, ev->raw_len);
        } else if (completed) {
                fwrite(ev->text ? ev->text : "", 1, ev->text_len, stdout);
                if (!ev->text_len || ev->text[ev->text_len - 1] != '\n')
                        putchar('\n');
        } else if (ev->code) {
                cli_error("result", "%s %s: %s: %s", ask->id, ev->state ? ev->state : "failed",
                                ev->code, ev->message ? ev->message : "");
        } else {
                cli_error("result", "%s is %s", ask->id, ev->state ? ev->state : "unknown");
        }
        return completed || is_running(ev) ? CLI_DONE : CLI_FAILED;
}

int cmd_result(int argc, char **argv) {
        struct ask ask = {0};
        struct millrace *m = NULL;
        struct millrace_event ev;
        int r = parse(&ask, argc, argv);

        if (r == -1)
                return cli_help("result");
        if (!r)
                r = cli_connect("result", ask.socket, &m);
        while (!r) {
                r = answer(&ask, &m, &ev);
                if (r || !ask.wait || !is_running(&ev))
                        break;
                pause_ms(POLL_MS);
        }
        if (!r)
                r = print_result(&ask, &ev);
        millrace_close(m);
        return r;
}

int cmd_cancel(int argc, char **argv) {
        struct ask ask = {0};
        struct millrace *m = NULL;
        struct millrace_event ev;
        int r = parse(&ask, argc, argv);

        if (r == -1)
                return cli_help("cancel");
        if (!r)
                r = cli_connect("cancel", ask.socket, &m);
        if (!r)
                r = answer(&ask, &m, &ev);
        if (!r && ask.json)
                cli_print_json(ev.raw, ev.raw_len);
        millrace_close(m);
        return r;
}
