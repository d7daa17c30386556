#include "supervisor/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static bool parse_port(const char *text, uint16_t *ret) {
        size_t len = strspn(text, "0123456789");
        unsigned long port;

        if (len == 0 || len > 5 || text[len] || (text[0] == '0' && len > 1))
                return false;
        port = strtoul(text, NULL, 10);
        if (port > UINT16_MAX)
                return false;
        *ret = (uint16_t)port;
        return true;
}

static int parse_unix(const char *path, struct sockaddr_storage *ret, socklen_t *ret_len) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        size_t len = strlen(path);

        if (len == 0 || len >= sizeof(un.sun_path))
                return -EINVAL;
        memcpy(un.sun_path, path, len);
        memset(ret, 0, sizeof(*ret));
        memcpy(ret, &un, sizeof(un));
        *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
        return 0;
}

static int parse_ip4(const char *host, uint16_t port, struct sockaddr_storage *ret,
                     socklen_t *ret_len) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

        if (strcmp(host, "localhost") == 0)
                in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        else if (strcmp(host, "*") != 0 && inet_pton(AF_INET, host, &in.sin_addr) != 1)
                return -EINVAL;
        memset(ret, 0, sizeof(*ret));
        memcpy(ret, &in, sizeof(in));
        *ret_len = sizeof(in);
        return 0;
}

static int parse_ip6(const char *host, uint16_t port, struct sockaddr_storage *ret,
                     socklen_t *ret_len) {
        struct sockaddr_in6 in = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

        if (inet_pton(AF_INET6, host, &in.sin6_addr) != 1)
                return -EINVAL;
        memset(ret, 0, sizeof(*ret));
        memcpy(ret, &in, sizeof(in));
        *ret_len = sizeof(in);
        return 0;
}

int address_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len) {
        const char *colon = strrchr(text, ':');
        char host[64];
        size_t len;
        uint16_t port;

        if (strncmp(text, "unix:", 5) == 0)
                return parse_unix(text + 5, ret, ret_len);
        if (!colon)
                return -EINVAL;
        len = (size_t)(colon - text);
        if (!parse_port(colon + 1, &port) || len == 0 || len >= sizeof(host))
                return -EINVAL;
        memcpy(host, text, len);
        host[len] = '\0';
        if (host[0] == '[' && host[len - 1] == ']') {
                host[len - 1] = '\0';
                return parse_ip6(host + 1, port, ret, ret_len);
        }
        return parse_ip4(host, port, ret, ret_len);
}

uint16_t address_port(const struct sockaddr_storage *address) {
        struct sockaddr_in6 in6;
        struct sockaddr_in in;

        if (address->ss_family == AF_INET) {
                memcpy(&in, address, sizeof(in));
                return ntohs(in.sin_port);
        }
        memcpy(&in6, address, sizeof(in6));
        return address->ss_family == AF_INET6 ? ntohs(in6.sin6_port) : 0;
}

bool address_is_local(const struct sockaddr_storage *address) {
        struct sockaddr_in6 in6;
        struct sockaddr_in in;

        if (address->ss_family == AF_INET) {
                memcpy(&in, address, sizeof(in));
                return ntohl(in.sin_addr.s_addr) >> 24 == 127;
        }
        if (address->ss_family == AF_INET6) {
                memcpy(&in6, address, sizeof(in6));
                return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr) ||
                       (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) && in6.sin6_addr.s6_addr[12] == 127);
        }
        return address->ss_family == AF_UNIX;
}

bool address_parse_url(const char *text, struct address_url *ret) {
        struct address_url url = {.tls = strncmp(text, "https://", 8) == 0};
        const char *host = text + (url.tls ? 8 : 7), *end, *port;
        uint16_t number;

        if (!url.tls && strncmp(text, "http://", 7) != 0)
                return false;
        if (strpbrk(text, " \t\r\n\"<>\\^`{|}#?@"))
                return false; /* no query, no fragment, and no password in a file that is shown */
        if (*host == '[') {
                end = strchr(++host, ']');
                if (!end)
                        return false;
                port = end + 1;
        } else {
                end = port = host + strcspn(host, ":/");
        }
        if (end == host || (size_t)(end - host) >= sizeof(url.host))
                return false;
        memcpy(url.host, host, (size_t)(end - host));
        snprintf(url.port, sizeof(url.port), "%s", url.tls ? "443" : "80");
        if (*port == ':') {
                size_t len = strcspn(++port, "/");

                if (len == 0 || len >= sizeof(url.port))
                        return false;
                memcpy(url.port, port, len);
                url.port[len] = '\0';
                if (!parse_port(url.port, &number) || number == 0)
                        return false;
        } else if (*port != '/' && *port != '\0') {
                return false;
        }
        *ret = url;
        return true;
}
