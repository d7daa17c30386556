/*
 * endpoints -- which (method, path) is whose.
 *
 * Shape   one table; a path that ends in '/' stands for everything below it, a '*' for one name
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

#define ENDPOINT_ALLOW_MAX 64u
/* METHOD: ret_allow is the Allow header's value; of the path "*": what any of them has. */
int endpoint_find(const struct http1_request *request, const struct endpoint **ret,
                char ret_allow[static ENDPOINT_ALLOW_MAX]);
/* A part of a path as a name: %41 is A. False: no such text, with unprintable characters, or longer than
 * cap. */
bool endpoint_decode(struct mr_view path, char *to, uint32_t cap, uint32_t *ret_n);
