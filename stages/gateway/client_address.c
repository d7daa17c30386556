#include "stages/gateway/client_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define V4_BITS_BEFORE 96u

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool is_v4(const uint8_t at[static 16]) {
        return memcmp(at, v4_prefix, sizeof(v4_prefix)) == 0;
}

/* ---- one address ---- */

struct client_address client_address_of(const struct sockaddr_storage *peer) {
        struct client_address address = {.known = true};
        struct sockaddr_in6 in6;
        struct sockaddr_in in;

        if (peer->ss_family == AF_INET) {
                memcpy(&in, peer, sizeof(in));
                memcpy(address.at, v4_prefix, sizeof(v4_prefix));
                memcpy(address.at + sizeof(v4_prefix), &in.sin_addr, 4);
                address.port = ntohs(in.sin_port);
        } else if (peer->ss_family == AF_INET6) {
                memcpy(&in6, peer, sizeof(in6));
                memcpy(address.at, &in6.sin6_addr, sizeof(address.at));
                address.port = ntohs(in6.sin6_port);
        } else {
                address.known = false;
        }
        return address;
}

/* An address without port and brackets. */
static bool parse_bare(struct mr_view text, uint8_t ret[static 16]) {
        char copy[INET6_ADDRSTRLEN];

        if (text.n == 0 || text.n >= sizeof(copy))
                return false;
        memcpy(copy, text.p, text.n);
        copy[text.n] = '\0';
        if (inet_pton(AF_INET, copy, ret + sizeof(v4_prefix)) == 1) {
                memcpy(ret, v4_prefix, sizeof(v4_prefix));
                return true;
        }
        return inet_pton(AF_INET6, copy, ret) == 1;
}

static uint32_t colons(struct mr_view text) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < text.n; i++)
                n += text.p[i] == ':';
        return n;
}

bool client_address_parse(struct mr_view text, struct client_address *ret) {
        struct client_address address = {.known = true};
        struct mr_view host = text, port = {0};
        uint32_t number = 0;

        if (text.n > 0 && (text.p[0] == '[' || colons(text) == 1) &&
                        !http1_host_split(text, &host, &port))
                return false;
        if (host.n > 0 && host.p[0] == '[')
                host = (struct mr_view){host.p + 1, host.n - 2};
        if (!parse_bare(host, address.at))
                return false;
        for (uint32_t i = 0; i < port.n; i++) /* digits, at most five */
                number = number * 10 + (uint32_t)(port.p[i] - '0');
        if (number > UINT16_MAX)
                return false;
        address.port = (uint16_t)number;
        *ret = address;
        return true;
}

bool client_address_same(const struct client_address *a, const struct client_address *b) {
        return a->known && b->known && memcmp(a->at, b->at, sizeof(a->at)) == 0;
}

/* ---- networks ---- */

static int network_parse(const char *text, struct client_network *ret) {
        const char *slash = strchr(text, '/');
        struct client_network network;
        struct mr_view address = {text, (uint32_t)(slash ? (size_t)(slash - text) : strlen(text))};
        bool colon = memchr(text, ':', address.n) != NULL;
        unsigned long most = colon ? 128 : 32, bits = most;
        char *end;

        if (!parse_bare(address, network.at))
                return -EINVAL;
        if (slash) {
                bits = strtoul(slash + 1, &end, 10);
                if (end == slash + 1 || *end || bits > most)
                        return -EINVAL;
        }
        network.bits = (uint32_t)bits + (colon ? 0 : V4_BITS_BEFORE);
        *ret = network;
        return 0;
}

int client_networks_init(struct client_networks *ret, const struct settings_strs *list) {
        struct client_networks networks = {
                        .v = calloc(list->n + 1, sizeof(*networks.v)), .n = list->n};

        if (!networks.v)
                return -ENOMEM;
        for (uint32_t i = 0; i < list->n; i++) {
                int r = network_parse(list->v[i], &networks.v[i]);

                if (r < 0) {
                        client_networks_close(&networks);
                        return r;
                }
        }
        *ret = networks;
        return 0;
}

void client_networks_close(struct client_networks *networks) {
        free(networks->v);
        *networks = (struct client_networks){.v = NULL};
}

static bool network_has(const struct client_network *network, const uint8_t at[static 16]) {
        uint32_t bytes = network->bits / 8, bits = network->bits % 8;
        uint8_t mask = (uint8_t)(0xff00 >> bits);

        /* ::/0 is every IPv6 address and no IPv4 one, although both are held in one form. */
        if (is_v4(at) != (is_v4(network->at) && network->bits >= V4_BITS_BEFORE))
                return false;
        if (memcmp(at, network->at, bytes) != 0)
                return false;
        return bits == 0 || ((at[bytes] ^ network->at[bytes]) & mask) == 0;
}

bool client_networks_have(
                const struct client_networks *networks, const struct client_address *address) {
        for (uint32_t i = 0; address->known && i < networks->n; i++)
                if (network_has(&networks->v[i], address->at))
                        return true;
        return false;
}

/* ---- through proxies ---- */

/* From the right, hop by hop. */
struct walk {
        const struct client_networks *trusted;
        struct client_address at; /* who counts, as far as it has gone */
        uint32_t n_hops;
        bool over;
};

static struct mr_view trim(struct mr_view view) {
        while (view.n > 0 && (view.p[0] == ' ' || view.p[0] == '\t'))
                view = (struct mr_view){view.p + 1, view.n - 1};
        while (view.n > 0 && (view.p[view.n - 1] == ' ' || view.p[view.n - 1] == '\t'))
                view.n--;
        return view;
}

static void walk_hop(struct walk *walk, struct mr_view text) {
        struct client_address address;

        if (!client_address_parse(text, &address) || ++walk->n_hops > CLIENT_HOPS_MAX) {
                walk->over = true; /* the proxy that said this is all that can be believed */
                return;
        }
        walk->at = address;
        walk->over = !client_networks_have(walk->trusted, &address);
}

/* What stands behind the last `mark`, which is taken with it. */
static struct mr_view cut_last(struct mr_view *rest, char mark) {
        uint32_t from = rest->n;
        struct mr_view part;

        while (from > 0 && rest->p[from - 1] != mark)
                from--;
        part = trim((struct mr_view){rest->p + from, rest->n - from});
        rest->n = from > 0 ? from - 1 : 0;
        return part;
}

/* for=ADDRESS of one proxy's for=...;by=...;proto=..., without its quotes; empty: there is none. */
static struct mr_view forwarded_for(struct mr_view element) {
        while (element.n > 0) {
                struct mr_view pair = cut_last(&element, ';');

                if (pair.n < 4 || !http1_is_nocase((struct mr_view){pair.p, 4}, "for="))
                        continue;
                pair = (struct mr_view){pair.p + 4, pair.n - 4};
                if (pair.n >= 2 && pair.p[0] == '"' && pair.p[pair.n - 1] == '"')
                        pair = (struct mr_view){pair.p + 1, pair.n - 2};
                return pair;
        }
        return (struct mr_view){0};
}

/* Commas within quotes are not looked for: a client could leave a quote open, and hide what the
 * proxies have added behind it. */
static void walk_fields(struct walk *walk, const struct http1_request *request, const char *name,
                bool forwarded) {
        for (uint32_t i = request->n_fields; i > 0 && !walk->over; i--) {
                const struct http1_field *field = &request->fields[i - 1];
                struct mr_view rest = field->value;

                while (http1_is_nocase(field->name, name) && rest.n > 0 && !walk->over) {
                        struct mr_view element = cut_last(&rest, ',');

                        if (element.n > 0)
                                walk_hop(walk, forwarded ? forwarded_for(element) : element);
                }
        }
}

struct client_address client_address_behind(const struct client_networks *trusted,
                const struct client_address *peer, const struct http1_request *request) {
        struct walk walk = {.trusted = trusted, .at = *peer};

        if (!client_networks_have(trusted, peer))
                return *peer;
        if (http1_field(request, "x-forwarded-for"))
                walk_fields(&walk, request, "x-forwarded-for", false);
        else
                walk_fields(&walk, request, "forwarded", true);
        return walk.at;
}
