/*
 * address_text -- an address as people write it, for checks.
 *
 * Shape   IPv4 addresses as such, without the port; "unknown"
 * Owner   the text is the caller's
 */
#pragma once

#include <arpa/inet.h>
#include <string.h>

#include "stages/gateway/client_address.h"

#define ADDRESS_TEXT INET6_ADDRSTRLEN

static inline const char *address_text(const struct client_address *address, char to[static ADDRESS_TEXT]) {
        static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};

        if (!address->known)
                return strcpy(to, "unknown");
        if (memcmp(address->at, v4, sizeof(v4)) == 0)
                return inet_ntop(AF_INET, address->at + sizeof(v4), to, ADDRESS_TEXT);
        return inet_ntop(AF_INET6, address->at, to, ADDRESS_TEXT);
}
