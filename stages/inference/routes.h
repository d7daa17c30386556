/*
 * routes -- which model workers answer for a public model name.
 *
 * Shape   a hash of names; each leads to backends in order of preference; "*" is any other name
 * Units   counts
 * Owner   struct routes, made once from the settings; backends live as long
 * Errors  0, -ENOMEM; a backend that cannot be used says why in `unusable` and fails its requests
 * Limits  ROUTE_BACKENDS_MAX workers a model; max_concurrency is over all lanes: each takes its
 * share
 *
 * Keys of backends are read here, before the sandbox, and leave the process only in a request's
 * Authorization header.
 */
#pragma once

#include "stages/common/settings.h"
#include "stages/common/breaker.h"
#include "stages/inference/flight.h"
#include "stages/inference/upstream.h"

#define ROUTE_BACKENDS_MAX 64u
#define BACKEND_WHY_MAX 160u

struct backend {
        const struct settings_worker *settings;
        const struct worker_kind *kind;
        struct breaker breaker;
        uint32_t limit, busy;                        /* requests in hand at once, and now */
        struct flight_list waiting;                  /* for one of them to end */
        char *authorization;                         /* header line; NULL: no key. Never logged */
        struct upstream_target targets[ENDPOINTS_N]; /* by enum record_endpoint */
        char unusable[BACKEND_WHY_MAX];              /* "": it can be used */
};

struct route {
        struct mr_view name;
        struct backend *backends[ROUTE_BACKENDS_MAX];
        uint32_t n_backends;
};

struct routes {
        struct backend *backends;
        uint32_t n_backends;
        struct route *routes;
        uint32_t n_routes;
        uint32_t *by_name; /* hash: route index + 1, 0 = empty */
        uint32_t mask;
        const struct route *any; /* of "*"; NULL: other names are unknown */
        double budget;           /* second attempts that are allowed now */
};

int routes_new(struct routes **ret, const struct settings *settings, uint32_t lane,
                uint32_t n_lanes);
struct routes *routes_free(struct routes *routes);
/* The model's route, or NULL. */
const struct route *routes_find(const struct routes *routes, const char *name, uint32_t n);
/* Does any worker talk to a backend? */
bool routes_need_upstream(const struct routes *routes);
struct mr_view backend_name(const struct backend *backend);
