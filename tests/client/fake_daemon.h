/*
 * fake_daemon -- the other end of a libmillrace connection: says exactly what a test wants it to.
 *
 * Shape   a listening Unix socket in a folder of its own, one accepted connection, one frame at hand
 * Units   none
 * Owner   the test; fake_close() takes everything away
 * Errors  none: what goes wrong fails the test
 * Limits  one connection at a time
 */
#pragma once

#include <msgpack.h>
#include <stddef.h>
#include <stdint.h>

#include "millrace/client.h"

struct fake {
        char dir[64], path[108];
        int listener, fd; /* -1: none */
        msgpack_sbuffer frame;
        msgpack_packer pk;
        msgpack_unpacker requests;
        msgpack_unpacked request;
};

void fake_open(struct fake *f);
void fake_close(struct fake *f);
/* A client, connected to it. */
struct millrace *fake_client(struct fake *f);
void fake_hang_up(struct fake *f);

/* ---- what it says ---- */

void fake_say(struct fake *f, const void *bytes, size_t n);
/* A map of n members begins; fake_send() sends it. */
void fake_map(struct fake *f, const char *ev, uint32_t n_members_besides_ev);
void fake_key(struct fake *f, const char *key);
void fake_str(struct fake *f, const char *key, const char *value);
void fake_number(struct fake *f, const char *key, uint64_t value);
void fake_send(struct fake *f);

/* ---- what it hears ---- */

/* The next request, as long as no other is heard. */
const msgpack_object *fake_hear(struct fake *f);
/* A member of it; NULL: absent. */
const msgpack_object *fake_member(const msgpack_object *map, const char *key);
void fake_expect_str(const msgpack_object *map, const char *key, const char *value);
