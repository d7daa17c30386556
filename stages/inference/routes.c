#include "stages/inference/routes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "stages/common/clock.h"
#include "stages/common/log.h"
#include "stages/common/secret.h"

#define BUDGET_MAX 10.0 /* second attempts saved up while all goes well */

/* ---- a backend ------------------------------------------------------------------------------ */

static const struct worker_kind *kind_of(enum settings_worker_kind kind) {
        switch (kind) {
        case SETTINGS_WORKER_ECHO:
                return &worker_echo;
        case SETTINGS_WORKER_EXTRACT:
                return &worker_extract;
        case SETTINGS_WORKER_OPENAI:
                return &worker_openai;
        case SETTINGS_WORKER_ANTHROPIC:
        case SETTINGS_WORKER_EXEC:
        case SETTINGS_WORKER_PLUGIN:
                return NULL;
        }
        return NULL;
}

static int key_set(struct backend *b) {
        const struct settings_worker *s = b->settings;
        int r = secret_header(s->api_key_env, s->api_key_file, b->unusable, sizeof(b->unusable),
                        &b->authorization);

        return r < 0 ? r : 0;
}

static bool url_is_loopback(const char *url) {
        static const char *const hosts[] = {"127.", "localhost", "[::1]"};
        const char *host = strstr(url, "://");

        for (size_t i = 0; host && i < sizeof(hosts) / sizeof(*hosts); i++)
                if (strncasecmp(host + 3, hosts[i], strlen(hosts[i])) == 0)
                        return true;
        return false;
}

static int targets_set(struct backend *b) {
        static const char *const paths[] = {[ENDPOINT_CHAT] = "chat/completions",
                        [ENDPOINT_COMPLETIONS] = "completions",
                        [ENDPOINT_EMBEDDINGS] = "embeddings"};
        const char *base = b->settings->base_url;
        int n;

        if (!base) {
                snprintf(b->unusable, sizeof(b->unusable), "it has no base_url");
                return 0;
        }
        n = (int)strlen(base);
        while (n > 0 && base[n - 1] == '/')
                n--;
        for (uint32_t i = 0; i < ENDPOINTS_N; i++) {
                struct upstream_target *target = &b->targets[i];
                target->authorization = b->authorization;
                target->connect_ms = b->settings->timeouts.connect_ms;
                target->loopback = url_is_loopback(base);
                if (asprintf(&target->url, "%.*s/%s", n, base, paths[i]) < 0) {
                        target->url = NULL;
                        return -ENOMEM;
                }
        }
        return 0;
}

/* This lane's part of a limit that holds over all lanes. At least one: a lane without any could
 * never answer its sessions. */
static uint32_t share(uint64_t limit, uint32_t lane, uint32_t n_lanes) {
        uint64_t part = limit / n_lanes + (lane < limit % n_lanes);

        return part > 0 ? (uint32_t)part : 1;
}

static int backend_init(struct backend *b, const struct settings *settings, uint32_t i,
                uint32_t lane, uint32_t n_lanes) {
        const struct settings_worker *s = &settings->inference.workers.v[i];
        int r = breaker_init(&b->breaker, (uint32_t)settings->inference.breaker.failures,
                        settings->inference.breaker.window_s * NS_PER_S,
                        settings->inference.breaker.open_ms * NS_PER_MS);

        if (r)
                return r;
        b->settings = s;
        b->kind = kind_of(s->kind);
        b->limit = share(s->max_concurrency, lane, n_lanes);
        if (!b->kind)
                snprintf(b->unusable, sizeof(b->unusable),
                                "this version has no workers of its kind");
        else if (b->kind->remote)
                r = key_set(b);
        if (r == 0 && b->kind && b->kind->remote)
                r = targets_set(b);
        if (b->unusable[0])
                log_error("worker_unusable", "worker=%s why=\"%s\"", s->name, b->unusable);
        return r;
}

struct mr_view backend_name(const struct backend *backend) {
        return (struct mr_view){backend->settings->name, (uint32_t)strlen(backend->settings->name)};
}

/* ---- routes --------------------------------------------------------------------------------- */

static uint32_t *place_of(const struct routes *routes, const char *name, uint32_t n) {
        uint32_t at = (uint32_t)XXH3_64bits(name, n) & routes->mask;

        while (routes->by_name[at]) {
                const struct mr_view *have = &routes->routes[routes->by_name[at] - 1].name;
                if (have->n == n && memcmp(have->p, name, n) == 0)
                        break;
                at = (at + 1) & routes->mask;
        }
        return &routes->by_name[at];
}

const struct route *routes_find(const struct routes *routes, const char *name, uint32_t n) {
        uint32_t found = *place_of(routes, name, n);

        return found ? &routes->routes[found - 1] : routes->any;
}

static struct backend *backend_find(const struct routes *routes, const char *name) {
        for (uint32_t i = 0; i < routes->n_backends; i++)
                if (strcmp(routes->backends[i].settings->name, name) == 0)
                        return &routes->backends[i];
        return NULL;
}

static void route_init(struct routes *routes, uint32_t i, const struct settings_model *model) {
        struct route *route = &routes->routes[i];

        route->name = (struct mr_view){model->name, (uint32_t)strlen(model->name)};
        for (uint32_t k = 0; k < model->workers.n && route->n_backends < ROUTE_BACKENDS_MAX; k++) {
                struct backend *b = backend_find(routes, model->workers.v[k]);
                if (b)
                        route->backends[route->n_backends++] = b;
        }
        *place_of(routes, route->name.p, route->name.n) = i + 1;
        if (strcmp(model->name, "*") == 0)
                routes->any = route;
}

int routes_new(struct routes **ret, const struct settings *settings, uint32_t lane,
                uint32_t n_lanes) {
        const struct settings_workers *workers = &settings->inference.workers;
        const struct settings_models *models = &settings->inference.models;
        struct routes *routes = calloc(1, sizeof(*routes));
        uint32_t places = 16;
        int r = 0;

        if (!routes)
                return -ENOMEM;
        while (places < 2 * models->n)
                places *= 2;
        routes->mask = places - 1;
        routes->by_name = calloc(places, sizeof(*routes->by_name));
        routes->backends = calloc(workers->n + 1, sizeof(*routes->backends));
        routes->routes = calloc(models->n + 1, sizeof(*routes->routes));
        routes->budget = BUDGET_MAX;
        if (!routes->by_name || !routes->backends || !routes->routes)
                r = -ENOMEM;
        for (; r == 0 && routes->n_backends < workers->n; routes->n_backends++)
                r = backend_init(&routes->backends[routes->n_backends], settings,
                                routes->n_backends, lane, n_lanes);
        if (r) {
                routes_free(routes);
                return r;
        }
        for (; routes->n_routes < models->n; routes->n_routes++)
                route_init(routes, routes->n_routes, &models->v[routes->n_routes]);
        *ret = routes;
        return 0;
}

struct routes *routes_free(struct routes *routes) {
        if (!routes)
                return NULL;
        for (uint32_t i = 0; i < routes->n_backends; i++) {
                struct backend *b = &routes->backends[i];
                breaker_close(&b->breaker);
                for (uint32_t k = 0; k < ENDPOINTS_N; k++)
                        free(b->targets[k].url);
                b->authorization = secret_free(b->authorization);
        }
        free(routes->backends);
        free(routes->routes);
        free(routes->by_name);
        free(routes);
        return NULL;
}

bool routes_need_upstream(const struct routes *routes) {
        for (uint32_t i = 0; i < routes->n_backends; i++)
                if (routes->backends[i].kind && routes->backends[i].kind->remote)
                        return true;
        return false;
}
