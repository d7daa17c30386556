/*
 * client_address -- where a client is, when there may be proxies between it and us.
 *
 * Shape   the peer's address, and what trusted proxies say -> the address that counts
 * Units   an IPv4 address is held as IPv6 holds it (::ffff:a.b.c.d): each client has one form
 * Owner   client_networks belong to whoever made them; views live as long as what they look into
 * Errors  0, -EINVAL for a text that is no network (the settings' check refuses it before), -ENOMEM
 * Limits  CLIENT_HOPS_MAX proxies are looked through
 *
 * Each proxy adds the address that it was called from on the right. So from the right, addresses of
 * http.trusted_proxies are passed over, and the first other one is the client; what stands left of
 * it is that client's own invention. What is no address ends the walk: then the last proxy that can
 * be trusted is all that is known. X-Forwarded-For counts; Forwarded (RFC 7239) where there is
 * none.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "stages/common/http1.h"
#include "stages/common/settings.h"

#define CLIENT_HOPS_MAX 32u

struct client_address {
        uint8_t at[16];
        uint16_t port; /* 0: not known */
        bool known;    /* false: a Unix socket's peer, or nobody said */
};

struct client_network {
        uint8_t at[16];
        uint32_t bits; /* of all 128 */
};

struct client_networks {
        struct client_network *v;
        uint32_t n;
};

/* Of what accept() or getpeername() gave. */
struct client_address client_address_of(const struct sockaddr_storage *peer);
/* ADDRESS, ADDRESS:PORT (IPv4), [ADDRESS] or [ADDRESS]:PORT. */
bool client_address_parse(struct mr_view text, struct client_address *ret);
bool client_address_same(const struct client_address *a, const struct client_address *b);

int client_networks_init(struct client_networks *ret, const struct settings_strs *list);
void client_networks_close(struct client_networks *networks);
/* An IPv4 address is in IPv4 networks only, and the other way round. */
bool client_networks_have(
                const struct client_networks *networks, const struct client_address *address);

/* Who asks, where `peer` is who is connected: *peer itself unless that is a trusted proxy. */
struct client_address client_address_behind(const struct client_networks *trusted,
                const struct client_address *peer, const struct http1_request *request);
