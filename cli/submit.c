/*
 * millrace submit -- one request; the answer streams to stdout as it comes.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

#define INPUT_MAX (64u * 1024 * 1024) /* the daemon's own limit answers first */
#define VARS_MAX 64
#define RECONNECT_TRIES 50
#define RECONNECT_WAIT_MS 100

static volatile sig_atomic_t interrupted; /* how often */

struct submit {
        struct millrace *m;
        const char *socket;
        struct millrace_request request;
        const char *vars[VARS_MAX + 1];
        int n_vars;
        const char *file;
        char *input;
        bool json;
        char own_id[33];              /* when none was given: so that it can be submitted twice */
        char id[MILLRACE_ID_MAX + 1]; /* as the daemon accepted it */
        uint64_t seq;                 /* last event seen */
        int n_lost;                   /* connections lost since */
        bool ends_line, cancelling;
        sigset_t waiting; /* signals that are blocked while something is waited for: SIGINT is not */
};

static void on_interrupt(int signal) {
        (void)signal;
        if (interrupted < 2)
                interrupted++;
}

static const struct option options[] = {
                {"socket", required_argument, NULL, 's'},
                {"session", required_argument, NULL, 'S'},
                {"model", required_argument, NULL, 'm'},
                {"system", required_argument, NULL, 'y'},
                {"template", required_argument, NULL, 't'},
                {"var", required_argument, NULL, 'v'},
                {"priority", required_argument, NULL, 'p'},
                {"deadline", required_argument, NULL, 'd'},
                {"rag", required_argument, NULL, 'r'},
                {"rag-collections", required_argument, NULL, 'c'},
                {"rag-filter", required_argument, NULL, 'F'},
                {"id", required_argument, NULL, 'i'},
                {"request", required_argument, NULL, 'f'},
                {"detach", no_argument, NULL, 'D'},
                {"json", no_argument, NULL, 'j'},
                {"help", no_argument, NULL, 'h'},
                {0},
};

static int bad_value(const char *option, const char *value, const char *expected) {
        cli_error("submit", "%s: '%s' is not %s", option, value, expected);
        return CLI_USAGE;
}

static int set_deadline(struct millrace_request *rq, const char *value) {
        char *end;

        errno = 0;
        rq->deadline_ms = strtoull(value, &end, 10);
        if (errno || *end || *value < '0' || *value > '9' || !rq->deadline_ms)
                return bad_value("--deadline", value, "a number of milliseconds above 0");
        return CLI_DONE;
}

static int set_priority(struct millrace_request *rq, const char *value) {
        static const char *const names[] = {"system", "interactive", "default", "bulk"};

        rq->priority = value;
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (strcmp(value, names[i]) == 0)
                        return CLI_DONE;
        return bad_value("--priority", value, "system, interactive, default or bulk");
}

static int set_rag(struct millrace_request *rq, const char *value) {
        if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
                return bad_value("--rag", value, "on or off");
        rq->rag = value[1] == 'n' ? 1 : -1;
        return CLI_DONE;
}

static int set_var(struct submit *s, const char *value) {
        if (!strchr(value, '=') || *value == '=')
                return bad_value("--var", value, "NAME=VALUE");
        if (s->n_vars == VARS_MAX)
                return bad_value("--var", value, "one of at most 64");
        s->vars[s->n_vars++] = value;
        s->request.vars = s->vars;
        return CLI_DONE;
}

static int set_option(struct submit *s, int option) {
        struct millrace_request *rq = &s->request;

        switch (option) {
        case 's':
                s->socket = optarg;
                return CLI_DONE;
        case 'S':
                rq->session = optarg;
                return CLI_DONE;
        case 'm':
                rq->model = optarg;
                return CLI_DONE;
        case 'y':
                rq->system = optarg;
                return CLI_DONE;
        case 't':
                rq->template_name = optarg;
                return CLI_DONE;
        case 'p':
                return set_priority(rq, optarg);
        case 'i':
                rq->id = optarg;
                return CLI_DONE;
        case 'f':
                s->file = optarg;
                return CLI_DONE;
        case 'D':
                rq->detach = 1;
                return CLI_DONE;
        case 'j':
                s->json = true;
                return CLI_DONE;
        case 'v':
                return set_var(s, optarg);
        case 'd':
                return set_deadline(rq, optarg);
        case 'r':
                return set_rag(rq, optarg);
        case 'c':
                rq->rag_collections = optarg;
                return CLI_DONE;
        case 'F':
                rq->rag_filter = optarg;
                return CLI_DONE;
        default:
                return cli_usage("submit");
        }
}

/* The request's text: TEXT, `-`, what is piped in, or --request FILE. */
static int read_input(struct submit *s, int n_args, char **args) {
        size_t n = 0;

        if (n_args > 1 || (n_args && s->file)) {
                cli_error("submit", "one TEXT, or - for stdin, or --request FILE: not several");
                return CLI_USAGE;
        }
        if (s->file) {
                s->input = cli_read_file("submit", s->file, INPUT_MAX, &n);
                s->request.body = s->input;
                s->request.body_len = n;
        } else if (n_args && strcmp(args[0], "-") != 0) {
                s->request.prompt = args[0];
                n = strlen(args[0]);
        } else if (n_args || !isatty(STDIN_FILENO)) {
                s->input = cli_read_file("submit", "-", INPUT_MAX, &n);
                s->request.prompt = s->input;
        } else {
                return cli_usage("submit");
        }
        if (!s->input && !s->request.prompt)
                return CLI_FAILED;
        if (!n || (s->request.prompt && strlen(s->request.prompt) != n)) {
                cli_error("submit", n ? "the prompt has a NUL byte" : "the request is empty");
                return CLI_USAGE;
        }
        return CLI_DONE;
}

static int make_id(struct submit *s) {
        uint8_t bytes[(sizeof(s->own_id) - 1) / 2];

        if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
                return -errno;
        for (size_t i = 0; i < sizeof(bytes); i++)
                snprintf(s->own_id + 2 * i, 3, "%02x", bytes[i]);
        s->request.id = s->own_id;
        return 0;
}

/* On a new connection. What was not accepted may have been lost with the old one; an id that the
 * daemon knows after all does not run twice. */
static int ask(struct submit *s) {
        return s->id[0] ? millrace_attach(s->m, s->id, s->seq)
                        : millrace_submit(s->m, &s->request, NULL);
}

/* The gateway may be replaced or die under us: what it had admitted runs on, and its log has every
 * event. */
static int reconnect(struct submit *s) {
        const struct timespec pause = {.tv_nsec = RECONNECT_WAIT_MS * 1000000L};
        int r = MILLRACE_E_CLOSED;

        s->cancelling = false; /* it may not have been heard */
        while (s->n_lost < RECONNECT_TRIES && !interrupted) {
                if (s->n_lost++ > 0)
                        ppoll(NULL, 0, &pause, &s->waiting);
                millrace_close(s->m);
                s->m = NULL;
                r = millrace_connect(&s->m, s->socket);
                if (!r)
                        r = ask(s);
                if (r != MILLRACE_E_UNREACHABLE && r != MILLRACE_E_CLOSED)
                        return r;
        }
        return r;
}

static void print_sources(const struct millrace_event *ev) {
        bool title = false;

        for (size_t i = 0; i < ev->n_sources; i++) {
                const struct millrace_source *source = &ev->sources[i];
                if (!source->cited)
                        continue;
                if (!title)
                        fprintf(stderr, "\nsources:\n");
                title = true;
                fprintf(stderr, "  [%llu] %s%s%s, bytes %llu-%llu\n", (unsigned long long)source->n,
                                source->id, source->title[0] ? ": " : "", source->title,
                                (unsigned long long)source->start, (unsigned long long)source->end);
        }
}

/* Prints one event; true: it was the last one, *ret is what to exit with. */
static bool on_event(struct submit *s, const struct millrace_event *ev, int *ret) {
        if (s->json && !cli_print_json(ev->raw, ev->raw_len))
                cli_error("submit", "an event is not understood");
        s->n_lost = 0;
        if (ev->seq)
                s->seq = ev->seq;
        switch (ev->kind) {
        case MILLRACE_ACCEPTED:
                snprintf(s->id, sizeof(s->id), "%s", ev->id);
                if (s->request.detach && !s->json)
                        printf("%s\n", ev->id);
                *ret = CLI_DONE;
                return s->request.detach != 0;
        case MILLRACE_DELTA:
                if (!s->json && ev->text_len && !ev->delta_kind) {
                        fwrite(ev->text, 1, ev->text_len, stdout);
                        fflush(stdout);
                        s->ends_line = ev->text[ev->text_len - 1] == '\n';
                }
                return false;
        case MILLRACE_DONE:
                if (!s->json && !s->ends_line)
                        putchar('\n');
                fflush(stdout);
                if (!s->json)
                        print_sources(ev);
                *ret = CLI_DONE;
                return true;
        case MILLRACE_ERROR:
                if (!s->json && s->seq > 1 && !s->ends_line)
                        putchar('\n');
                fflush(stdout);
                if (!s->json)
                        cli_error("submit", "%s: %s", ev->code ? ev->code : "error",
                                        ev->message ? ev->message : "");
                *ret = CLI_FAILED;
                return true;
        default:
                return false;
        }
}

/* SIGINT comes only in here, so that none slips in between the look at it and the wait. */
static int wait_for_more(struct submit *s) {
        struct pollfd p = {.fd = millrace_fd(s->m), .events = POLLIN};

        return ppoll(&p, 1, NULL, &s->waiting) == -1 && errno != EINTR ? -errno : 0;
}

static int follow(struct submit *s) {
        struct millrace_event ev;
        int r, exit_code = CLI_FAILED;

        for (;;) {
                if (interrupted > 1 || (interrupted && !s->id[0]))
                        return CLI_FAILED; /* the connection ends, and with it the request */
                if (interrupted && !s->cancelling) {
                        s->cancelling = true;
                        millrace_cancel(s->m, s->id);
                }
                r = millrace_next(s->m, 0, &ev);
                if (r == MILLRACE_E_TIMEOUT)
                        r = wait_for_more(s);
                else if (r == MILLRACE_E_CLOSED)
                        r = reconnect(s);
                else if (!r && on_event(s, &ev, &exit_code))
                        return exit_code;
                if (r)
                        return cli_client_failed("submit", r);
        }
}

static void catch_interrupts(struct submit *s) {
        struct sigaction action = {.sa_handler = on_interrupt};
        sigset_t sigint;

        sigemptyset(&sigint);
        sigaddset(&sigint, SIGINT);
        sigprocmask(SIG_BLOCK, &sigint, &s->waiting);
        sigdelset(&s->waiting, SIGINT);
        sigaction(SIGINT, &action, NULL);
}

static int run(struct submit *s) {
        int r = cli_connect("submit", s->socket, &s->m);

        if (r)
                return r;
        s->ends_line = true;
        r = s->request.id ? 0 : make_id(s);
        if (r)
                return cli_client_failed("submit", r);
        r = millrace_submit(s->m, &s->request, NULL);
        if (r == -EINVAL) {
                cli_error("submit", "--id: longer than %u bytes", MILLRACE_ID_MAX);
                return CLI_USAGE;
        }
        if (r && r != MILLRACE_E_CLOSED)
                return cli_client_failed("submit", r);
        catch_interrupts(s);
        return follow(s);
}

int cmd_submit(int argc, char **argv) {
        struct submit s = {0};
        int option, r = CLI_DONE;

        while (!r && (option = getopt_long(argc, argv, "s:h", options, NULL)) != -1)
                r = option == 'h' ? -1 : set_option(&s, option);
        if (r == -1)
                return cli_help("submit");
        if (!r)
                r = read_input(&s, argc - optind, argv + optind);
        if (!r)
                r = run(&s);
        millrace_close(s.m);
        free(s.input);
        return r;
}
