/*
 * millrace status, restart, reload, drain -- clients of the supervisor's control socket (docs/control.md).
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <msgpack.h>

#include "cli/cli.h"
#include "cli/control_socket.h"

struct control {
        const char *command, *socket;
        bool json;
        const char *stage, *timeout, *lane;
        char *exe; /* an absolute path, owned */
        msgpack_unpacker unpacker;
        msgpack_unpacked answer;
        int fd;
};

static const struct option options[] = {
                {"socket", required_argument, NULL, 's'},
                {"json", no_argument, NULL, 'j'},
                {"lane", required_argument, NULL, 'l'},
                {"timeout", required_argument, NULL, 't'},
                {"exe", required_argument, NULL, 'e'},
                {"help", no_argument, NULL, 'h'},
                {0},
};

/* ---- asking ---- */

static int unreachable(const struct control *c, const char *path, int error) {
        cli_error(c->command, "cannot reach the daemon at %s: %s (start it with `millrace run`)",
                        path, strerror(error));
        return CLI_UNREACHABLE;
}

static int control_connect(struct control *c) {
        char path[CONTROL_PATH_MAX];
        int r = control_socket_connect(c->socket, path, &c->fd);

        return r ? unreachable(c, path, -r) : CLI_DONE;
}

static uint64_t number(const msgpack_object *map, const char *key) {
        const msgpack_object *o = control_member(map, key);

        return o->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? o->via.u64 : 0;
}

static bool has_number(const msgpack_object *map, const char *key) {
        return control_member(map, key)->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
}

/* A text as printf's %.*s takes it. */
#define TEXT(o)                                                                                    \
        ((o)->type == MSGPACK_OBJECT_STR ? (int)(o)->via.str.size : 1),                            \
                        ((o)->type == MSGPACK_OBJECT_STR ? (o)->via.str.ptr : "-")

static void pack_text(msgpack_packer *pk, const char *text) {
        msgpack_pack_str_with_body(pk, text, strlen(text));
}

static void pack_request(const struct control *c, msgpack_packer *pk) {
        msgpack_pack_map(pk, 1u + (c->stage != NULL) + (c->lane != NULL) + (c->timeout != NULL) +
                                             (c->exe != NULL));
        pack_text(pk, "op");
        pack_text(pk, c->command);
        if (c->stage) {
                pack_text(pk, "stage");
                pack_text(pk, c->stage);
        }
        if (c->lane) {
                pack_text(pk, "lane");
                msgpack_pack_uint64(pk, strtoull(c->lane, NULL, 10));
        }
        if (c->exe) {
                pack_text(pk, "exe");
                pack_text(pk, c->exe);
        }
        if (c->timeout) {
                pack_text(pk, "timeout_ms");
                msgpack_pack_uint64(pk, strtoull(c->timeout, NULL, 10));
        }
}

static int control_print_json(const msgpack_object *o) {
        msgpack_sbuffer out;
        msgpack_packer pk;
        bool ok;

        msgpack_sbuffer_init(&out);
        msgpack_packer_init(&pk, &out, msgpack_sbuffer_write);
        msgpack_pack_object(&pk, *o);
        ok = cli_print_json(out.data, out.size);
        msgpack_sbuffer_destroy(&out);
        return ok ? CLI_DONE : CLI_FAILED;
}

/* Asks and says why when the answer is no. A refused configuration is the user's mistake: exit 2. */
static int control_ask(struct control *c) {
        const msgpack_object *ok, *code, *message, *keys;
        msgpack_sbuffer request;
        msgpack_packer pk;
        int r = control_connect(c);

        if (r)
                return r;
        msgpack_sbuffer_init(&request);
        msgpack_packer_init(&pk, &request, msgpack_sbuffer_write);
        pack_request(c, &pk);
        r = control_socket_send(c->fd, &request);
        msgpack_sbuffer_destroy(&request);
        if (!r)
                r = control_socket_receive(c->fd, &c->unpacker, &c->answer);
        if (r) {
                cli_error(c->command, "%s",
                                r == -ECONNRESET ? "the daemon ended before it answered"
                                                 : strerror(-r));
                return r == -ECONNRESET || r == -EPIPE ? CLI_UNREACHABLE : CLI_FAILED;
        }
        ok = control_member(&c->answer.data, "ok");
        if (ok->type == MSGPACK_OBJECT_BOOLEAN && ok->via.boolean)
                return CLI_DONE;
        code = control_member(&c->answer.data, "code");
        message = control_member(&c->answer.data, "message");
        keys = control_member(&c->answer.data, "keys");
        if (c->json)
                control_print_json(&c->answer.data);
        cli_error(c->command, "%.*s", TEXT(message));
        for (uint32_t i = 0; keys->type == MSGPACK_OBJECT_ARRAY && i < keys->via.array.size; i++)
                cli_error(c->command, "%.*s: needs a new `millrace run`",
                                TEXT(&keys->via.array.ptr[i]));
        return code->type == MSGPACK_OBJECT_STR && code->via.str.size > 8 &&
                                               (!strncmp(code->via.str.ptr, "invalid_", 8) ||
                                                               !strncmp(code->via.str.ptr,
                                                                               "restart_", 8))
                               ? CLI_USAGE
                               : CLI_FAILED;
}

/* ---- reading the command line ---- */

static bool is_number(const char *text) {
        return *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 19;
}

static int set_number(
                const char *command, const char *option, const char *value, const char **ret) {
        if (!is_number(value)) {
                cli_error(command, "%s: '%s' is not a number", option, value);
                return CLI_USAGE;
        }
        *ret = value;
        return CLI_DONE;
}

static int set_exe(struct control *c, const char *value) {
        free(c->exe);
        c->exe = realpath(value, NULL);
        if (c->exe)
                return CLI_DONE;
        cli_error(c->command, "--exe: %s: %s", value, strerror(errno));
        return CLI_USAGE;
}

/* n_args: how many arguments the command takes (0 or 1). -1: help was printed. */
static int parse(struct control *c, int argc, char **argv, int n_args) {
        int option, r = CLI_DONE;

        c->command = argv[0];
        while (!r && (option = getopt_long(argc, argv, "s:h", options, NULL)) != -1) {
                if (option == 's')
                        c->socket = optarg;
                else if (option == 'j')
                        c->json = true;
                else if (option == 'l' && strcmp(argv[0], "restart") == 0)
                        r = set_number(argv[0], "--lane", optarg, &c->lane);
                else if (option == 'e' && strcmp(argv[0], "restart") == 0)
                        r = set_exe(c, optarg);
                else if (option == 't' && strcmp(argv[0], "drain") == 0)
                        r = set_number(argv[0], "--timeout", optarg, &c->timeout);
                else
                        return option == 'h' ? -1 : cli_usage(argv[0]);
        }
        if (!r && argc - optind != n_args)
                return cli_usage(argv[0]);
        if (!r && n_args)
                c->stage = argv[optind];
        return r;
}

/* ---- printing ---- */

static void print_place(const msgpack_object *p, const char *name, uint32_t name_len) {
        char core[24] = "-", pid[24] = "-";

        if (has_number(p, "core"))
                snprintf(core, sizeof(core), "%" PRIu64, number(p, "core"));
        if (has_number(p, "pid"))
                snprintf(pid, sizeof(pid), "%" PRIu64, number(p, "pid"));
        printf("  %-10.*s %8s  %-8.*s core %-3s restarts %-4" PRIu64, (int)name_len, name, pid,
                        TEXT(control_member(p, "state")), core, number(p, "restarts"));
        if (control_member(p, "last_exit")->type == MSGPACK_OBJECT_STR)
                printf(" last exit: %.*s", TEXT(control_member(p, "last_exit")));
}

static void print_lane(const msgpack_object *lane) {
        const msgpack_object *stages = control_member(lane, "stages");

        printf("lane %" PRIu64 "  %.*s  in flight %" PRIu64, number(lane, "lane"),
                        TEXT(control_member(lane, "state")), number(lane, "in_flight"));
        if (number(lane, "resets") > 0)
                printf("  resets %" PRIu64, number(lane, "resets"));
        printf("\n");
        for (uint32_t i = 0; stages->type == MSGPACK_OBJECT_ARRAY && i < stages->via.array.size;
                        i++) {
                const msgpack_object *p = &stages->via.array.ptr[i], *ring = control_member(p, "ring");
                const msgpack_object *name = control_member(p, "stage");
                print_place(p, name->type == MSGPACK_OBJECT_STR ? name->via.str.ptr : "?",
                                name->type == MSGPACK_OBJECT_STR ? name->via.str.size : 1);
                printf("  ring %" PRIu64 "/%" PRIu64 "  in %" PRIu64 "  out %" PRIu64
                       "  %.1f MiB\n",
                                number(ring, "depth"), number(ring, "capacity"),
                                number(p, "records_in"), number(p, "records_out"),
                                (double)number(p, "rss_bytes") / 1048576.0);
        }
}

static void print_watch(const msgpack_object *p) {
        print_place(p, "watch", 5);
        printf("  added %" PRIu64 "  replaced %" PRIu64 "  removed %" PRIu64 "  refused %" PRIu64
               "\n",
                        number(p, "added"), number(p, "replaced"), number(p, "removed"),
                        number(p, "refused"));
}

static void print_status(const msgpack_object *s) {
        const msgpack_object *gateways = control_member(s, "gateways");
        const msgpack_object *lanes = control_member(s, "lanes");
        const msgpack_object *requests = control_member(s, "requests");
        const msgpack_object *uptime = control_member(s, "uptime_s");
        const msgpack_object *http = control_member(s, "http"), *watch = control_member(s, "watch");

        printf("millrace %.*s  instance %.*s  pid %" PRIu64 "  %.*s",
                        TEXT(control_member(s, "version")), TEXT(control_member(s, "instance")),
                        number(s, "pid"), TEXT(control_member(s, "state")));
        if (uptime->type == MSGPACK_OBJECT_FLOAT64)
                printf("  up %.1f s", uptime->via.f64);
        printf("\nsocket %.*s\nhttp", TEXT(control_member(s, "socket")));
        for (uint32_t i = 0; http->type == MSGPACK_OBJECT_ARRAY && i < http->via.array.size; i++)
                printf(" %.*s", TEXT(&http->via.array.ptr[i]));
        puts(http->type == MSGPACK_OBJECT_ARRAY && http->via.array.size > 0 ? "" : " none");
        for (uint32_t i = 0; gateways->type == MSGPACK_OBJECT_ARRAY && i < gateways->via.array.size;
                        i++) {
                const msgpack_object *p = &gateways->via.array.ptr[i];
                print_place(p, "gateway", 7);
                printf("  connections %" PRIu64 "\n", number(p, "connections"));
        }
        for (uint32_t i = 0; lanes->type == MSGPACK_OBJECT_ARRAY && i < lanes->via.array.size; i++)
                print_lane(&lanes->via.array.ptr[i]);
        print_place(control_member(s, "telemetry"), "telemetry", 9);
        printf("\n");
        if (watch->type == MSGPACK_OBJECT_MAP)
                print_watch(watch);
        printf("requests  admitted %" PRIu64 "  completed %" PRIu64 "  failed %" PRIu64
               "  cancelled %" PRIu64 "  in flight %" PRIu64 "  shed %" PRIu64 "\n",
                        number(requests, "admitted"), number(requests, "completed"),
                        number(requests, "failed"), number(requests, "cancelled"),
                        number(requests, "in_flight"), number(requests, "shed"));
}

/* ---- commands ---- */

static int control_talk(struct control *c, void (*print)(const msgpack_object *answer)) {
        int r;

        if (!msgpack_unpacker_init(&c->unpacker, 65536)) {
                cli_error(c->command, "%s", strerror(ENOMEM));
                return CLI_FAILED;
        }
        msgpack_unpacked_init(&c->answer);
        r = control_ask(c);
        if (!r && c->json)
                r = control_print_json(strcmp(c->command, "status") == 0
                                                       ? control_member(&c->answer.data, "status")
                                                       : &c->answer.data);
        else if (!r)
                print(&c->answer.data);
        if (c->fd != -1)
                close(c->fd);
        msgpack_unpacked_destroy(&c->answer);
        msgpack_unpacker_destroy(&c->unpacker);
        return r;
}

static int control_run(
                int argc, char **argv, int n_args, void (*print)(const msgpack_object *answer)) {
        struct control c = {.fd = -1};
        int r = parse(&c, argc, argv, n_args);

        if (r == -1)
                r = cli_help(argv[0]);
        else if (!r)
                r = control_talk(&c, print);
        free(c.exe);
        return r;
}

static void say_status(const msgpack_object *answer) {
        print_status(control_member(answer, "status"));
}

static void say_restarted(const msgpack_object *answer) {
        printf("restarted %" PRIu64 " process%s\n", number(answer, "restarted"),
                        number(answer, "restarted") == 1 ? "" : "es");
}

static void say_reloaded(const msgpack_object *answer) {
        const msgpack_object *changed = control_member(answer, "changed");

        for (uint32_t i = 0; changed->type == MSGPACK_OBJECT_ARRAY && i < changed->via.array.size;
                        i++)
                printf("changed %.*s\n", TEXT(&changed->via.array.ptr[i]));
        say_restarted(answer);
}

static void say_drained(const msgpack_object *answer) {
        (void)answer;
        printf("drained: everything admitted has ended\n");
}

int cmd_status(int argc, char **argv) {
        return control_run(argc, argv, 0, say_status);
}

int cmd_restart(int argc, char **argv) {
        return control_run(argc, argv, 1, say_restarted);
}

int cmd_reload(int argc, char **argv) {
        return control_run(argc, argv, 0, say_reloaded);
}

int cmd_drain(int argc, char **argv) {
        return control_run(argc, argv, 0, say_drained);
}
