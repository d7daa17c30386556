/*
 * telemetry -- what the counters of all processes say, for Prometheus and for people.
 *
 * Shape   no rings; one HTTP listener, GET /metrics and GET /
 * Owner   the counters pages are other processes' and read-only here: nobody is slowed down, and
 *         nobody notices when this process dies
 * Errors  a connection's trouble ends that connection
 * Limits  server.h; a scrape reads every page once, when it is asked for
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/stage.h"
#include "stages/telemetry/answer.h"
#include "stages/telemetry/server.h"

struct telemetry {
        struct server server;
        struct answer_allow allow;
};

static bool telemetry_answer(void *ctx, const struct http1_request *request, struct text *out) {
        struct worker *w = ctx;
        struct telemetry *telemetry = w->stage;
        struct figures figures = {.topology = w->topology,
                        .pages = w->all_counters,
                        .now_ns = loop_now_ns(w->loop),
                        .heartbeat_timeout_ns =
                                        w->settings->supervisor.heartbeat_timeout_ms * NS_PER_MS,
                        .watched = w->settings->rag.watch.n > 0};

        return answer_request(out, request, &telemetry->allow, &figures);
}

static int telemetry_init(struct worker *w) {
        struct telemetry *telemetry = calloc(1, sizeof(*telemetry));
        const char *listen = w->settings->telemetry.listen;
        struct mr_view port;

        if (!telemetry)
                return -ENOMEM;
        w->stage = telemetry;
        telemetry->allow = (struct answer_allow){.hosts = &w->settings->http.allowed_hosts,
                        .origins = &w->settings->http.allowed_origins};
        if (listen && strncmp(listen, "unix:", 5) == 0)
                telemetry->allow.any = true;
        else if (listen)
                http1_host_split((struct mr_view){listen, (uint32_t)strlen(listen)},
                                &telemetry->allow.listen_host, &port);
        return 0;
}

static int telemetry_attach(struct worker *w) {
        struct telemetry *telemetry = w->stage;

        server_init(&telemetry->server, w->loop, w->listeners[LISTENER_TELEMETRY],
                        w->settings->http.head_timeout_ms * NS_PER_MS, telemetry_answer, w);
        return 0;
}

/* Everything happens in completions of the loop. */
static unsigned telemetry_turn(struct worker *w) {
        (void)w;
        return 0;
}

static void telemetry_fini(struct worker *w) {
        struct telemetry *telemetry = w->stage;

        server_close(&telemetry->server);
        free(telemetry);
        w->stage = NULL;
}

static const struct stage_ops telemetry_ops = {
                .name = "telemetry",
                .role = ROLE_TELEMETRY,
                .loop_entries = 64,
                .init = telemetry_init,
                .attach = telemetry_attach,
                .turn = telemetry_turn,
                .fini = telemetry_fini,
};

int main(int argc, char **argv) {
        return worker_main(&telemetry_ops, argc, argv);
}
