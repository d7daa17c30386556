#include "stages/gateway/proxy_protocol.h"

#include <string.h>

#define FIXED_BYTES 16u
#define TLV_BYTES 3u

static const char signature[] = {
                '\r', '\n', '\r', '\n', '\0', '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21 }; /* version 2 in the upper half */
enum { FAMILY_UNSPEC = 0x00, FAMILY_TCP4 = 0x11, FAMILY_TCP6 = 0x21, FAMILY_UNIX = 0x31 };

static int refuse(const char **ret_why, const char *why) {
        *ret_why = why;
        return PROXY_E_REFUSED;
}

static uint32_t number16(const uint8_t *at) {
        return (uint32_t)at[0] << 8 | at[1];
}

/* Bytes of the addresses of a family; false: one that no stream has. */
static bool address_bytes(uint8_t family, uint32_t *ret) {
        switch (family) {
        case FAMILY_UNSPEC:
                *ret = 0;
                return true;
        case FAMILY_TCP4:
                *ret = 2 * 4 + 2 * 2;
                return true;
        case FAMILY_TCP6:
                *ret = 2 * 16 + 2 * 2;
                return true;
        case FAMILY_UNIX:
                *ret = 2 * 108;
                return true;
        default:
                return false;
        }
}

/* Source address, destination address, source port, destination port. */
static void take_address(uint8_t family, const uint8_t *at, struct proxy_protocol *ret) {
        struct client_address client = {.known = true};

        if (family == FAMILY_TCP4) {
                memset(client.at + 10, 0xff, 2);
                memcpy(client.at + 12, at, 4);
                client.port = (uint16_t)number16(at + 8);
        } else if (family == FAMILY_TCP6) {
                memcpy(client.at, at, 16);
                client.port = (uint16_t)number16(at + 32);
        } else {
                client.known = false;
        }
        ret->proxied = family != FAMILY_UNSPEC;
        ret->client = client;
}

/* What stands behind the addresses is not ours, but must be whole. */
static bool tlvs_fit(const uint8_t *at, uint32_t n) {
        while (n > 0) {
                uint32_t len = n < TLV_BYTES ? UINT32_MAX : TLV_BYTES + number16(at + 1);

                if (len > n)
                        return false;
                at += len;
                n -= len;
        }
        return true;
}

static int refuse_other(const char *bytes, uint32_t len, const char **ret_why) {
        if (len >= 5 && memcmp(bytes, "PROXY", 5) == 0)
                return refuse(ret_why, "version 1 of the PROXY protocol; expected version 2 "
                                       "(haproxy: send-proxy-v2)");
        return refuse(ret_why, "no PROXY head, which http.proxy_protocol asks for");
}

int proxy_protocol_parse(
                const char *bytes, uint32_t len, struct proxy_protocol *ret, const char **ret_why) {
        const uint8_t *at = (const uint8_t *)bytes;
        uint32_t known = len < sizeof(signature) ? len : (uint32_t)sizeof(signature);
        uint32_t more, addresses = 0;

        if (len == 0)
                return PROXY_E_MORE;
        if (memcmp(bytes, signature, known) != 0)
                return refuse_other(bytes, len, ret_why);
        if (len < FIXED_BYTES)
                return PROXY_E_MORE;
        if (at[12] != COMMAND_LOCAL && at[12] != COMMAND_PROXY)
                return refuse(ret_why,
                                "a PROXY head of another version, or with an unknown command");
        more = number16(at + 14);
        if (more > PROXY_HEAD_MAX - FIXED_BYTES)
                return refuse(ret_why, "a PROXY head of more than 4096 bytes");
        /* A proxy that asks for itself may put there what it likes. */
        if (at[12] == COMMAND_PROXY && (!address_bytes(at[13], &addresses) || addresses > more))
                return refuse(ret_why, "a PROXY head of an unknown family, or too short for its "
                                       "addresses");
        if (len < FIXED_BYTES + more)
                return PROXY_E_MORE;
        *ret = (struct proxy_protocol){.head_bytes = FIXED_BYTES + more};
        if (at[12] == COMMAND_LOCAL)
                return 0;
        if (at[13] != FAMILY_UNSPEC && !tlvs_fit(at + FIXED_BYTES + addresses, more - addresses))
                return refuse(ret_why, "a PROXY head whose parts do not fit into it");
        take_address(at[13], at + FIXED_BYTES, ret);
        return 0;
}
