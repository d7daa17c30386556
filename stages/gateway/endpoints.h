/*
 * endpoints -- which (method, path) is whose.
 *
 * Shape   one table; a path that ends in '/' stands for everything below it
 * Owner   constants
 * Errors  ENDPOINT_E_PATH, ENDPOINT_E_METHOD
 */
#pragma once

#include "stages/gateway/http.h"

enum endpoint_error { ENDPOINT_E_PATH = 1, ENDPOINT_E_METHOD };

struct endpoint {
        const char *method; /* GET stands for HEAD too */
        const char *path;
        /* Answers, or sees to it that somebody will; http_done() is due then. `request` is good
         * until it returns. */
        void (*run)(struct gateway *gw, struct conn *c, const struct http1_request *request,
                        struct mr_view body);
};

/* METHOD: *ret_allow is the Allow header's value. */
int endpoint_find(const struct http1_request *request, const struct endpoint **ret,
                const char **ret_allow);
