/*
 * http_surface -- what all HTTP connections of a gateway share.
 *
 * Shape   a listener's rules for each element of http.listen; who is connected how often
 * Units   seconds since 1970 for dates
 * Owner   struct gateway
 * Errors  none of its own
 * Limits  HTTP_LISTENERS_MAX listeners; http.max_connections_per_address connections of one address
 */
#pragma once

#include "stages/common/channel.h"
#include "stages/gateway/client_address.h"
#include "stages/gateway/conn.h"
#include "stages/gateway/http_rules.h"
#include "stages/gateway/json_frame.h"

#define HTTP_PEER_BUCKETS 1024u
#define HTTP_DATE_BYTES 32u

/* A listener's ctx. */
struct http_listener {
        struct http_rules rules;
};

/* An address from which somebody is connected. */
struct http_peer {
        struct http_peer *next;
        struct client_address address;
        uint32_t n;
};

struct http_surface {
        struct http_listener listeners[HTTP_LISTENERS_MAX];
        uint32_t n_listeners;
        struct client_networks trusted;
        struct http_peer *peers[HTTP_PEER_BUCKETS];
        uint32_t peers_max;
        struct json_frame frame; /* scratch: a request or an event of the native dialect */
        int64_t epoch_s; /* CLOCK_MONOTONIC's zero, in whole seconds */
        uint64_t date_at_s;
        char date[HTTP_DATE_BYTES];
};
