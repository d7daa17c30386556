/*
 * address -- where a listener stands: HOST:PORT, [IPV6]:PORT or unix:PATH.
 *
 * Shape   text -> socket address; HOST is an IPv4 address, localhost, or * for every address
 * Units   none
 * Owner   nothing is allocated
 * Errors  0 or -EINVAL for a text that is no address
 * Limits  no names are looked up; port 0 (the kernel chooses) to 65535; a path fits sun_path
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

int address_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len);

/* 0: of a Unix socket, or to be chosen. */
uint16_t address_port(const struct sockaddr_storage *address);
/* Reached from this machine alone: loopback or a Unix socket. */
bool address_is_local(const struct sockaddr_storage *address);

/* The parts of http://HOST[:PORT][/PATH]; false: not such a URL. port 0 of the text is refused. */
struct address_url {
        char host[256];
        char port[6];
        bool tls;
};
bool address_parse_url(const char *text, struct address_url *ret);
