#include "stages/gateway/http_surface.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <xxhash.h>

#include "stages/common/clock.h"
#include "stages/gateway/http.h"

/* In whole seconds, so that two gateways agree about it. */
static int64_t epoch_s(void) {
        struct timespec real, mono;

        clock_gettime(CLOCK_REALTIME, &real);
        clock_gettime(CLOCK_MONOTONIC, &mono);
        return ((int64_t)(real.tv_sec - mono.tv_sec) * (int64_t)NS_PER_S + real.tv_nsec -
                               mono.tv_nsec + (int64_t)NS_PER_S / 2) /
               (int64_t)NS_PER_S;
}

int http_surface_init(struct gateway *gw) {
        const struct settings *s = gw->w->settings;
        struct http_surface *http = &gw->http;

        http->epoch_s = epoch_s();
        http->date_at_s = UINT64_MAX;
        http->peers_max = (uint32_t)s->http.max_connections_per_address;
        return client_networks_init(&http->trusted, &s->http.trusted_proxies);
}

void http_surface_close(struct gateway *gw) {
        client_networks_close(&gw->http.trusted);
        json_frame_close(&gw->http.frame);
}

struct conn_listener *http_listen(struct gateway *gw, int fd, const char *where) {
        struct http_surface *http = &gw->http;
        struct http_listener *listener;

        if (http->n_listeners == HTTP_LISTENERS_MAX)
                return NULL;
        listener = &http->listeners[http->n_listeners++];
        http_rules_init(&listener->rules, gw->w->settings, where);
        return conns_listen(&gw->conns, fd, &http_protocol, listener);
}

void http_retire(struct gateway *gw) {
        for (struct conn *c = gw->conns.all; c; c = c->next)
                if (c->protocol == &http_protocol && http_of(c)->phase == HTTP_HEAD &&
                                c->in_len == 0)
                        conn_finish(c);
}

/* ---- who is connected from where ---- */

static struct http_peer **peer_find(
                struct http_surface *http, const struct client_address *address) {
        uint64_t hash = XXH3_64bits(address->at, sizeof(address->at));
        struct http_peer **at = &http->peers[hash % HTTP_PEER_BUCKETS];

        while (*at && memcmp((*at)->address.at, address->at, sizeof(address->at)) != 0)
                at = &(*at)->next;
        return at;
}

struct client_address http_peer_address(const struct conn *c) {
        struct sockaddr_storage name = {0};
        socklen_t len = sizeof(name);

        if (getpeername(c->fd, (struct sockaddr *)&name, &len) == -1)
                return (struct client_address){.known = false}; /* it is gone already */
        return client_address_of(&name);
}

bool http_peer_enter(struct conn *c, const struct client_address *address) {
        struct http_surface *http = &gateway_of(c)->http;
        struct http_peer **at, *peer;

        if (!address->known || client_networks_have(&http->trusted, address))
                return true;
        at = peer_find(http, address);
        peer = *at ? *at : calloc(1, sizeof(*peer));
        if (!peer || peer->n >= http->peers_max)
                return false;
        peer->address = *address;
        peer->n++;
        *at = peer;
        http_of(c)->peer = peer;
        return true;
}

bool http_peer_behind(struct conn *c, const struct http1_request *request) {
        const struct client_networks *trusted = &gateway_of(c)->http.trusted;
        struct http *h = http_of(c);
        struct client_address address;

        if (!h->from.known || !client_networks_have(trusted, &h->from))
                return true;
        address = client_address_behind(trusted, &h->from, request);
        if (h->peer && client_address_same(&h->peer->address, &address))
                return true;
        http_peer_leave(c);
        return http_peer_enter(c, &address);
}

void http_peer_leave(struct conn *c) {
        struct http *h = http_of(c);
        struct http_peer *peer = h->peer;

        h->peer = NULL;
        if (!peer || --peer->n > 0)
                return;
        *peer_find(&gateway_of(c)->http, &peer->address) = peer->next;
        free(peer);
}
