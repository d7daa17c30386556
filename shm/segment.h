/*
 * segment -- named shared memory: create, adopt, map one way, unlink.
 *
 * Shape   /millrace.<uid>.<instance>.<object>, mode 0600, pages allocated by posix_fallocate
 * Owner   the supervisor creates and unlinks; workers get descriptors, map, and close them
 * Errors  0 or -errno; -ENOSPC when /dev/shm has no room (the caller says how much is needed),
 *         -EEXIST when the name is taken, -EPROTO when an object has another size
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shm/ring.h"

#define SEGMENT_NAME_MAX 128

struct segment_fds {
        int rw; /* for the writer */
        int ro; /* opened O_RDONLY: a mapping of it can never be made writable */
};

/* Name of an object: kind + numbers a, b (UINT32_MAX: not part of the name). 0 or -ENAMETOOLONG. */
int segment_name(char buf[static SEGMENT_NAME_MAX], const char *instance, const char *object);
/* Name of an object's own part: "ring.7.p", "slab.0.rag", "log.1" … */
int segment_object_name(char *buf, uint32_t n, enum mr_object kind, uint32_t a, uint32_t b);

int segment_create(const char *name, uint64_t bytes, struct segment_fds *ret);
/* The same with room for its first bytes only; the first touch of any other page may be a SIGBUS, until
 * segment_fill() has found room for all of it. */
int segment_create_thin(const char *name, uint64_t bytes, uint64_t first, struct segment_fds *ret);
int segment_fill(const struct segment_fds *fds, uint64_t bytes);
/* Opens an existing object of exactly `bytes`, owned by this user, mode 0600. */
int segment_open(const char *name, uint64_t bytes, struct segment_fds *ret);
int segment_unlink(const char *name);
void segment_close(struct segment_fds *fds);
/* Calls fn(name, ctx) for each object of an instance that exists; used to remove leftovers. */
int segment_list(const char *instance, void (*fn)(const char *name, void *ctx), void *ctx);
/* Free bytes of the shared-memory file system. */
int segment_space(uint64_t *ret_free, uint64_t *ret_total);

/* Maps an object whole. The pages are there already (segment_create()), so that a fault costs a
 * microsecond when one is touched first; to fault all of them at the start would be most of a
 * restart. */
int segment_map(int fd, uint64_t bytes, bool writable, void **ret);
/* Faults pages of a mapping in; what cannot be is left to its first touch. */
void segment_populate(void *at, uint64_t bytes, bool writable);
void segment_unmap(void *map, uint64_t bytes);
/* Maps both objects of a ring: the producer's with its bytes twice. `producer`: which side we are
 * decides which mapping is writable. Checks geometry and object sizes. */
int segment_map_ring(int prod_fd, int cons_fd, const struct ring_geometry *geo, bool producer,
        struct ring_map *ret);
void segment_unmap_ring(struct ring_map *map);
