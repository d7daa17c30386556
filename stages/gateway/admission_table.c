#include "stages/gateway/admission_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t own(const mr_au64 *word) {
        return atomic_load_explicit(word, memory_order_relaxed);
}

static void state_set(struct admission_slot *slot, enum admission_state state) {
        /* SYNC(admission.claim): everything the slot says is visible before its state -> seq_cst
         * load in admission_find_id() and table_settle(). */
        atomic_store_explicit(&slot->state, state, memory_order_seq_cst);
}

static void lane_publish(struct admission_table *t, uint32_t lane) {
        /* SYNC(admission.sum): our contribution is out before we sum everybody's. */
        atomic_store_explicit(
                        &t->shm->lane_in_flight[lane], t->in_flight[lane], memory_order_seq_cst);
}

/* ---- attach ---- */

/* The last steps of a close; each may be repeated. */
static void finish_closing(struct admission_table *t, struct admission_slot *slot) {
        uint64_t outcome = own(&slot->outcome), counted = own(&slot->counted);

        if (outcome < OUTCOMES_N && counted > own(&t->shm->total[outcome]))
                atomic_store_explicit(&t->shm->total[outcome], counted, memory_order_release);
        state_set(slot, ADMISSION_FREE);
}

static void begin_closing(struct admission_table *t, struct admission_slot *slot,
                enum admission_outcome outcome) {
        atomic_store_explicit(&slot->outcome, outcome, memory_order_relaxed);
        atomic_store_explicit(
                        &slot->counted, own(&t->shm->total[outcome]) + 1, memory_order_relaxed);
        state_set(slot, ADMISSION_CLOSING);
}

/* True: the slot stays open. */
static bool slot_recover(struct admission_table *t, struct admission_slot *slot,
                const struct table_lane *lanes) {
        uint64_t state = own(&slot->state);

        if (state != ADMISSION_OPEN) {
                state_set(slot, ADMISSION_FREE);
                return false;
        }
        if (slot->lane >= t->n_lanes || slot->lane_gen != lanes[slot->lane].lane_gen) {
                begin_closing(t, slot, OUTCOME_FAILED);
                finish_closing(t, slot);
                return false;
        }
        /* Opened, but its record was never committed: nobody has seen it, no client was told. */
        if (own(&slot->ring_seq) >= lanes[slot->lane].committed) {
                state_set(slot, ADMISSION_FREE);
                return false;
        }
        return true;
}

int table_attach(struct admission_table *t, const struct table_lane *lanes) {
        t->n_slots = t->shm->n_slots;
        t->free = calloc(t->n_slots, sizeof(*t->free));
        if (!t->free)
                return -ENOMEM;
        /* First what was half counted, before anything else is counted. */
        for (uint32_t i = 0; i < t->n_slots; i++)
                if (own(&t->shm->slots[i].state) == ADMISSION_CLOSING)
                        finish_closing(t, &t->shm->slots[i]);
        for (uint32_t i = t->n_slots; i-- > 0;) {
                struct admission_slot *slot = &t->shm->slots[i];

                if (!slot_recover(t, slot, lanes)) {
                        t->free[t->n_free++] = i;
                        continue;
                }
                if (slot->block.len > 0 && arena_adopt(t->arena, &slot->block) != 0)
                        return -EPROTO;
                t->in_flight[slot->lane]++;
                t->n_open++;
        }
        arena_adopted(t->arena);
        for (uint32_t lane = 0; lane < t->n_lanes; lane++) {
                lane_publish(t, lane);
                table_committed(t, lane, lanes[lane].committed);
        }
        return 0;
}

void table_detach(struct admission_table *t) {
        free(t->free);
        t->free = NULL;
}

/* ---- in flight, over all gateways ---- */

int table_lane_take(struct admission_table *t, uint32_t lane) {
        uint64_t sum;

        if (t->in_flight[lane] >= t->max_in_flight)
                return ADMISSION_E_FULL;
        t->in_flight[lane]++;
        lane_publish(t, lane);
        sum = t->in_flight[lane];
        for (uint32_t g = 0; g < GATEWAY_SLOTS_MAX; g++)
                if (g != t->gateway && t->others[g].shm)
                        /* SYNC(admission.sum): after our own store; the other one does the same, so
                         * that two racers may both back out, and never both stay above the limit.
                         */
                        sum += atomic_load_explicit(&t->others[g].shm->lane_in_flight[lane],
                                        memory_order_seq_cst);
        if (sum <= t->max_in_flight)
                return 0;
        table_lane_give(t, lane);
        return ADMISSION_E_FULL;
}

void table_lane_give(struct admission_table *t, uint32_t lane) {
        t->in_flight[lane]--;
        lane_publish(t, lane);
}

/* ---- a slot's life ---- */

uint64_t table_next_request(struct admission_table *t) {
        uint64_t n = own(&t->shm->next_request) + 1;

        /* Stored before use: a successor never makes the same number again. SYNC(admission.claim):
         * and before the first claim, see admission_find_id(). */
        atomic_store_explicit(&t->shm->next_request, n, memory_order_seq_cst);
        return t->generation << REQ_ID_GENERATION_SHIFT |
               (uint64_t)t->gateway << REQ_ID_SLOT_SHIFT | (n & REQ_ID_COUNTER_MASK);
}

int table_claim(struct admission_table *t, const struct table_claim *claim, uint32_t *ret_slot) {
        struct admission_slot *slot;
        uint32_t i;

        if (t->n_free == 0)
                return ADMISSION_E_FULL;
        i = t->free[--t->n_free];
        slot = &t->shm->slots[i];
        atomic_store_explicit(&slot->id_hash, claim->id_hash, memory_order_relaxed);
        atomic_store_explicit(&slot->req_id, claim->req_id, memory_order_relaxed);
        slot->id_len = (uint16_t)claim->id_len;
        slot->tenant_len = (uint16_t)claim->tenant_len;
        memcpy(slot->id, claim->id, claim->id_len);
        memcpy(slot->tenant, claim->tenant, claim->tenant_len);
        state_set(slot, ADMISSION_CLAIMING);
        *ret_slot = i;
        return 0;
}

int table_settle(const struct admission_table *t, uint32_t slot, uint32_t *ret_gateway,
                uint32_t *ret_slot) {
        const struct admission_slot *mine = &t->shm->slots[slot];
        int r = 0;

        for (uint32_t g = 0; g < GATEWAY_SLOTS_MAX; g++) {
                const struct admission_view *view = &t->others[g];
                uint32_t i;

                if (g == t->gateway || !view->shm ||
                                admission_find_id(view, mine->tenant, mine->tenant_len, mine->id,
                                                mine->id_len, &i) != 0)
                        continue;
                /* SYNC(admission.claim): CLAIMING is stored by both before either looks. */
                if (atomic_load_explicit(&view->shm->slots[i].state, memory_order_seq_cst) !=
                                ADMISSION_CLAIMING) {
                        *ret_gateway = g;
                        *ret_slot = i;
                        return TABLE_E_ELSEWHERE;
                }
                if (g < t->gateway)
                        r = TABLE_E_YIELD;
                else if (r == 0)
                        r = TABLE_E_WAIT;
        }
        return r;
}

static void slot_release(struct admission_table *t, uint32_t slot) {
        state_set(&t->shm->slots[slot], ADMISSION_FREE);
        t->free[t->n_free++] = slot;
}

void table_withdraw(struct admission_table *t, uint32_t slot) {
        slot_release(t, slot);
}

bool table_has_others(const struct admission_table *t) {
        for (uint32_t g = 0; g < GATEWAY_SLOTS_MAX; g++)
                /* SYNC(admission.claim): as in admission_find_id(). */
                if (g != t->gateway && t->others[g].shm &&
                                atomic_load_explicit(&t->others[g].shm->next_request,
                                                memory_order_seq_cst) != 0)
                        return true;
        return false;
}

void table_open(struct admission_table *t, uint32_t slot, const struct table_open *open) {
        struct admission_slot *s = &t->shm->slots[slot];

        s->lane = open->lane;
        s->flags = open->flags;
        s->lane_gen = open->lane_gen;
        s->block = open->block;
        s->body_len = open->body_len;
        s->record_len = open->record_len;
        s->digest[0] = open->digest[0];
        s->digest[1] = open->digest[1];
        s->t0 = open->t0;
        atomic_store_explicit(&s->ring_seq, open->ring_seq, memory_order_relaxed);
        state_set(s, ADMISSION_OPEN);
        t->n_open++;
}

void table_close(struct admission_table *t, uint32_t slot, enum admission_outcome outcome) {
        struct admission_slot *s = &t->shm->slots[slot];

        begin_closing(t, s, outcome);
        if (s->block.len > 0)
                arena_free(t->arena, &s->block);
        finish_closing(t, s);
        t->free[t->n_free++] = slot;
        t->n_open--;
        table_lane_give(t, s->lane);
}

void table_committed(struct admission_table *t, uint32_t lane, uint64_t head) {
        /* SYNC(admission.commit): after the commit itself -> table_peek(). Who dies in between leaves
         * it to the next attach. */
        atomic_store_explicit(&t->shm->committed[lane], head, memory_order_seq_cst);
}

bool table_is_open(const struct admission_table *t, uint32_t slot) {
        return own(&t->shm->slots[slot].state) == ADMISSION_OPEN;
}

uint64_t table_total(const struct admission_table *t, enum admission_outcome outcome) {
        return own(&t->shm->total[outcome]);
}

int table_peek(const struct admission_view *view, uint32_t slot, struct admission_slot *ret) {
        const struct admission_slot *s = &view->shm->slots[slot];
        /* SYNC(admission.claim): the number comes first. It is stored while the slot says FREE, so an OPEN
         * that is seen after it is this request's, or a later one's, which the second look finds. */
        uint64_t req_id = atomic_load_explicit(&s->req_id, memory_order_seq_cst);

        if (atomic_load_explicit(&s->state, memory_order_seq_cst) != ADMISSION_OPEN)
                return ADMISSION_E_NONE;
        memcpy(ret, (const void *)s, sizeof(*ret));
        layout_seqlock_fence();
        if (ret->id_len > ADMISSION_ID_MAX || ret->tenant_len > ADMISSION_TENANT_MAX ||
                        ret->lane >= LANES_MAX)
                return ADMISSION_E_NONE;
        /* SYNC(admission.commit): what is not in the ring yet may never be; its readers would wait
         * for ever. Looked at before the state: a number below it was of this very request. */
        if (own(&ret->ring_seq) >= atomic_load_explicit(&view->shm->committed[ret->lane],
                                                   memory_order_seq_cst))
                return ADMISSION_E_NONE;
        /* SYNC(admission.claim): still the same open request after the copy? */
        if (atomic_load_explicit(&s->state, memory_order_seq_cst) != ADMISSION_OPEN ||
                        atomic_load_explicit(&s->req_id, memory_order_seq_cst) != req_id)
                return ADMISSION_E_NONE;
        return 0;
}
