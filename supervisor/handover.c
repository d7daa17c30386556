/*
 * handover -- what a new process is given before START: settings, memory, bells, listeners, the
 * lock; and later the arenas that come and go with the gateway slots in use.
 *
 * The messages are made one by one as the channel takes them, so nothing is kept for a process that
 * is slow to read, and the supervisor does not wait for it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "stages/common/channel.h"
#include "supervisor/daemon.h"

#define SETTINGS_CHUNK 16384u
#define CHUNK_LAST 1u

enum handover_phase { HELLO, SETTINGS, OBJECTS, BELLS, LISTENERS, LOCK, START, PHASES_N };

static int send_hello(struct process *p) {
        const struct daemon *d = p->d;
        struct channel_hello hello = {.role = p->role,
                        .proc = p->index,
                        .lane = p->lane,
                        .slot = d->memory.topology->procs[p->index].slot,
                        .epoch = p->epoch,
                        .blame = p->blame,
                        .signal = p->blame ? p->blame_signal : 0,
                        .core = p->core,
                        .recycled = p->recycled,
                        .page_bytes = topology_bytes(),
                        .settings_bytes = d->packed_len};

        snprintf(hello.instance, sizeof(hello.instance), "%s", d->memory.instance);
        snprintf(hello.socket, sizeof(hello.socket), "%s", d->client.path);
        return channel_send(p->channel, CHANNEL_HELLO, 0, &hello, sizeof(hello), -1);
}

static int send_settings(struct process *p, uint32_t i, bool *ret_last) {
        const struct daemon *d = p->d;
        size_t from = (size_t)i * SETTINGS_CHUNK;
        size_t len = d->packed_len - from;

        if (len > SETTINGS_CHUNK)
                len = SETTINGS_CHUNK;
        *ret_last = from + len == d->packed_len;
        return channel_send(p->channel, CHANNEL_SETTINGS, *ret_last ? CHUNK_LAST : 0,
                        d->packed + from, (uint32_t)len, -1);
}

/* An object that does not exist any more has neither bytes nor a descriptor. */
static int send_object(struct process *p, uint32_t i) {
        const struct memory *m = &p->d->memory;
        const struct topology_object *o = &m->objects[i];
        enum topology_right right = topology_grant(m->topology, o, p->index);
        struct channel_object message = {.kind = o->kind,
                        .a = o->a,
                        .b = o->b,
                        .writable = right == RIGHT_WRITE,
                        .bytes = m->fds[i].ro == -1 ? 0 : o->bytes};
        int r = channel_send(p->channel, CHANNEL_OBJECT, 0, &message, sizeof(message),
                        right == RIGHT_WRITE ? m->fds[i].rw : m->fds[i].ro);

        if (r == 0 && o->kind == OBJECT_ARENA)
                p->arena[o->a] = m->arena[o->a];
        return r;
}

static int send_granted(struct process *p, uint32_t i) {
        const struct memory *m = &p->d->memory;

        if (m->fds[i].ro == -1 ||
                        topology_grant(m->topology, &m->objects[i], p->index) == RIGHT_NONE)
                return 0;
        return send_object(p, i);
}

/* Does it read arenas? Its owner has its own from the start. */
static bool reads_arena(const struct process *p, const struct topology_object *o) {
        return o->kind == OBJECT_ARENA &&
               topology_grant(p->d->memory.topology, o, p->index) == RIGHT_READ;
}

int handover_arenas(struct process *p) {
        const struct memory *m = &p->d->memory;

        for (uint32_t i = 0; i < m->n_objects; i++) {
                const struct topology_object *o = &m->objects[i];
                int r;

                if (!reads_arena(p, o) || p->arena[o->a] == m->arena[o->a])
                        continue;
                r = send_object(p, i);
                if (r)
                        return r;
                p->n_taking += m->arena[o->a] != 0;
        }
        return 0;
}

bool handover_has_arenas(const struct process *p) {
        const struct memory *m = &p->d->memory;

        for (uint32_t i = 0; i < m->n_objects; i++) {
                const struct topology_object *o = &m->objects[i];

                if (reads_arena(p, o) && p->arena[o->a] != m->arena[o->a])
                        return false;
        }
        return p->n_taking == 0;
}

static int send_bell(struct process *p, uint32_t i) {
        const struct daemon *d = p->d;
        struct channel_bell bell = {.proc = i};

        if (i != p->index && !topology_neighbours(d->memory.topology, p->index, i))
                return 0;
        return channel_send(p->channel, CHANNEL_BELL, 0, &bell, sizeof(bell), d->procs[i].bell);
}

/* A gateway gets the client socket, then what http.listen names; a closing one lets nobody in. */
static int send_listener(struct process *p, uint32_t i, bool *ret_last) {
        const struct daemon *d = p->d;
        struct channel_listener message = {.kind = LISTENER_SOCKET};
        int fd = d->client.fd;

        if (p->role == ROLE_TELEMETRY) {
                message.kind = LISTENER_TELEMETRY;
                fd = d->telemetry.fd;
        } else if (p->role != ROLE_GATEWAY || p->closing) {
                return 0;
        } else {
                *ret_last = i == d->n_http;
        }
        if (i > 0) {
                message = (struct channel_listener){.kind = LISTENER_HTTP, .index = i - 1};
                fd = d->http[i - 1].fd;
        }
        if (fd == -1)
                return 0;
        return channel_send(p->channel, CHANNEL_LISTENER, 0, &message, sizeof(message), fd);
}

/* One message of one phase; *ret_last: the phase is over with it. */
static int send_one(struct process *p, const struct handover *at, bool *ret_last) {
        *ret_last = true;
        switch ((enum handover_phase)at->phase) {
        case HELLO:
                return send_hello(p);
        case SETTINGS:
                return send_settings(p, at->at, ret_last);
        case OBJECTS:
                *ret_last = at->at + 1 == p->d->memory.n_objects;
                return send_granted(p, at->at);
        case BELLS:
                *ret_last = at->at + 1 == p->d->n_procs;
                return send_bell(p, at->at);
        case LISTENERS:
                return send_listener(p, at->at, ret_last);
        case LOCK:
                return channel_send(p->channel, CHANNEL_LOCK, 0, NULL, 0, p->d->lock.fd);
        case START:
                return channel_send(p->channel, CHANNEL_START, 0, NULL, 0, -1);
        case PHASES_N:
                break;
        }
        return -EPROTO;
}

int handover_lane(struct process *p, uint32_t lane, uint64_t generation) {
        const struct memory *m = &p->d->memory;
        struct channel_lane message = {.lane = lane, .generation = generation};

        for (uint32_t i = 0; i < m->n_objects; i++) {
                int r = 0;

                if (topology_object_lane(m->topology, &m->objects[i]) == lane)
                        r = send_granted(p, i);
                if (r)
                        return r;
        }
        return channel_send(p->channel, CHANNEL_LANE, 0, &message, sizeof(message), -1);
}

int handover_continue(struct process *p) {
        struct handover *at = &p->handover;

        while (at->phase < PHASES_N) {
                bool last;
                int r = send_one(p, at, &last);

                if (r)
                        return r;
                at->at = last ? 0 : at->at + 1;
                at->phase += last;
        }
        at->done = true;
        return 0;
}
