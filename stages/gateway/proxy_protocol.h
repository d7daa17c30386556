/*
 * proxy_protocol -- the head that haproxy puts before a connection: who is at its far end.
 *
 * Shape   bytes -> struct proxy_protocol; version 2 of the protocol only, which is binary and
 *         bounded
 * Units   bytes; ports in the host's order
 * Owner   the caller keeps the buffer; nothing points into it afterwards
 * Errors  PROXY_E_MORE; PROXY_E_REFUSED with a sentence for the log: close, there is nobody to
 *         answer
 * Limits  PROXY_HEAD_MAX bytes for a head, what it says beside the addresses included
 *
 * As in haproxy's doc/proxy-protocol.txt, section 2.2. LOCAL (the proxy asks for itself) and an
 * unspecified family say nothing about the client: the connection's own peer counts. Where the
 * protocol is switched on, a connection that opens with anything else is refused, version 1 too: a
 * client that could leave the head out could also write it.
 */
#pragma once

#include <stdint.h>

#include "stages/gateway/client_address.h"

#define PROXY_HEAD_MAX 4096u

enum proxy_error {
        PROXY_E_MORE = 1, /* not whole yet: call again with more behind the same bytes */
        PROXY_E_REFUSED,
};

struct proxy_protocol {
        uint32_t head_bytes;          /* the client's own bytes begin there */
        bool proxied;                 /* false: the connection's own peer counts */
        struct client_address client; /* proxied: not known when it came over a Unix socket */
};

int proxy_protocol_parse(
                const char *bytes, uint32_t len, struct proxy_protocol *ret, const char **ret_why);
