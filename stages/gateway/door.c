#include "stages/gateway/door.h"

#include <stdlib.h>
#include <string.h>

#include "stages/gateway/gateway.h"
#include "stages/gateway/lanes.h"
#include "stages/gateway/submit.h"

#define TICK_NS (5 * NS_PER_MS)

static void on_tick(struct loop_timer *timer) {
        (void)timer; /* the turn that follows looks at the door */
}

void door_init(struct gateway *gw) {
        const struct settings *s = gw->w->settings;

        gw->door = (struct door){.max = s->admission.queue,
                        .max_bytes = s->admission.queue_bytes,
                        .timeout_ns = s->admission.queue_timeout_ms * NS_PER_MS,
                        .arena_used = UINT64_MAX,
                        .tick = {.fn = on_tick}};
}

bool door_occupied(const struct gateway *gw, uint32_t lane, enum ask_priority priority) {
        if (gw->door.waiting[lane] == 0)
                return false;
        for (int p = 0; p <= (int)priority; p++)
                if (gw->door.line[lane][p].first)
                        return true;
        return false;
}

static void on_timeout(struct loop_timer *timer) {
        struct door_entry *entry = timer->owner;
        struct gateway *gw = entry->answer->gateway;

        if (entry->by_deadline) {
                submit_refuse_waiting(gw, entry->answer, MR_E_deadline_exceeded,
                                "the deadline passed while the request waited to be admitted");
                return;
        }
        counters_add(gw->w->counters, COUNTER_shed_timeout, 1);
        submit_refuse_waiting(gw, entry->answer, MR_E_overloaded,
                        "the request waited too long to be admitted");
}

static void gauges(struct gateway *gw) {
        counters_set(gw->w->counters, COUNTER_door_waiting, gw->door.n);
        counters_set(gw->w->counters, COUNTER_door_bytes, gw->door.bytes);
}

int door_enter(struct gateway *gw, const struct door_wait *wait) {
        struct door *door = &gw->door;
        struct door_line *line = &door->line[wait->lane][wait->priority];
        struct mr_view frame = {(const char *)wait->frame, wait->frame_len};
        bool kept = composed_keeps(wait->made);
        uint64_t bytes = sizeof(struct door_entry) + wait->frame_len +
                         (kept ? composed_texts(wait->made, frame) : 0);
        uint64_t until = wait->t0 + door->timeout_ns;
        struct door_entry *entry;

        if (door->n >= door->max || door->bytes + bytes > door->max_bytes)
                return DOOR_E_FULL;
        entry = malloc(bytes);
        if (!entry)
                return DOOR_E_FULL;
        *entry = (struct door_entry){.prev = line->last,
                        .answer = wait->answer,
                        .dialect = wait->dialect,
                        .lane = wait->lane,
                        .priority = wait->priority,
                        .slot = wait->slot,
                        .options = wait->options,
                        .t0 = wait->t0,
                        .deadline_ns = wait->deadline_ns,
                        .kept = kept,
                        .frame_len = wait->frame_len,
                        .bytes = (uint32_t)bytes,
                        .by_deadline = wait->deadline_ns != 0 && wait->deadline_ns < until,
                        .timer = {.fn = on_timeout, .owner = entry}};
        memcpy(entry->frame, wait->frame, wait->frame_len);
        if (kept)
                composed_keep(&entry->made, wait->made, frame, entry->frame,
                                (char *)entry->frame + wait->frame_len);
        if (line->last)
                line->last->next = entry;
        else
                line->first = entry;
        line->last = entry;
        door->n++;
        door->bytes += bytes;
        door->waiting[wait->lane]++;
        wait->answer->waiting = entry;
        loop_timer_set(gw->w->loop, &entry->timer, entry->by_deadline ? wait->deadline_ns : until);
        gauges(gw);
        return 0;
}

void door_leave(struct gateway *gw, struct door_entry *entry) {
        struct door *door = &gw->door;
        struct door_line *line = &door->line[entry->lane][entry->priority];

        loop_timer_clear(gw->w->loop, &entry->timer);
        if (entry->slot != ADMISSION_NONE)
                table_withdraw(&gw->table, entry->slot);
        if (entry->prev)
                entry->prev->next = entry->next;
        else
                line->first = entry->next;
        if (entry->next)
                entry->next->prev = entry->prev;
        else
                line->last = entry->prev;
        door->n--;
        door->bytes -= entry->bytes;
        door->waiting[entry->lane]--;
        entry->answer->waiting = NULL;
        free(entry);
        gauges(gw);
}

/* Requests of one lane, the most urgent ones first, until one does not get in. */
static unsigned lane_turn(struct gateway *gw, uint32_t lane) {
        unsigned n = 0;

        for (int p = 0; p < PRIORITIES_N; p++) {
                struct door_entry *entry;

                while ((entry = gw->door.line[lane][p].first)) {
                        if (n == TURN_RECORDS || submit_waiting(gw, entry) != 0)
                                return n;
                        n++;
                }
        }
        return n;
}

unsigned door_turn(struct gateway *gw) {
        struct door *door = &gw->door;
        bool look_again = false;
        unsigned n = 0;

        if (door->n == 0)
                return 0;
        if (door->arena_used != UINT64_MAX && gw->arena.used_bytes < door->arena_used)
                door->arena_used = UINT64_MAX;
        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                /* A lane that we fill ourselves tells us when there is room. */
                if (door->waiting[lane] == 0 || !lane_is_here(gw, lane) ||
                                gw->table.in_flight[lane] >= gw->table.max_in_flight)
                        continue;
                n += lane_turn(gw, lane);
                look_again |= door->waiting[lane] > 0;
        }
        if (look_again && door->tick.heap == 0)
                loop_timer_set(gw->w->loop, &door->tick, loop_now_ns(gw->w->loop) + TICK_NS);
        return n;
}

void door_refuse_lane(struct gateway *gw, uint32_t lane, enum mr_error code, const char *message) {
        for (int p = 0; p < PRIORITIES_N; p++)
                while (gw->door.line[lane][p].first) {
                        if (code == MR_E_overloaded)
                                counters_add(gw->w->counters, COUNTER_shed_down, 1);
                        submit_refuse_waiting(
                                        gw, gw->door.line[lane][p].first->answer, code, message);
                }
}

void door_refuse_all(struct gateway *gw, enum mr_error code, const char *message) {
        for (uint32_t lane = 0; lane < gw->n_lanes; lane++)
                door_refuse_lane(gw, lane, code, message);
}

void door_forget(struct gateway *gw) {
        for (uint32_t lane = 0; lane < gw->n_lanes; lane++)
                for (int p = 0; p < PRIORITIES_N; p++)
                        while (gw->door.line[lane][p].first)
                                door_leave(gw, gw->door.line[lane][p].first);
}
