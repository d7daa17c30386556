#include "shm/layout.h"

#include <xxhash.h>

#include "shm/admission.h"
#include "shm/arena.h"
#include "shm/counters.h"
#include "shm/log.h"
#include "shm/ring.h"
#include "shm/side.h"
#include "shm/slab.h"
#include "shm/topology.h"

const char *mr_role_name(enum mr_role role) {
        static const char *const names[ROLES_N] = {
                        [ROLE_RAG] = "rag",
                        [ROLE_ASSEMBLE] = "assemble",
                        [ROLE_INFERENCE] = "inference",
                        [ROLE_POST] = "post",
                        [ROLE_STREAM] = "stream",
                        [ROLE_GATEWAY] = "gateway",
                        [ROLE_TELEMETRY] = "telemetry",
                        [ROLE_WATCH] = "watch",
        };

        return (unsigned)role < ROLES_N ? names[role] : NULL;
}

#define AT(type, field) offsetof(struct type, field)

/* Whatever two builds must agree on to share memory: a field that moves changes a number here, and
 * one whose meaning changes without moving raises LAYOUT_VERSION. */
/* A group of facts for each object. */
/* clang-format off */
static const uint64_t facts[] = {
        LAYOUT_VERSION, LAYOUT_SEPARATION, LAYOUT_PAGE, LANES_MAX, GATEWAY_SLOTS_MAX,
        PROCS_MAX, RINGS_MAX, ROLES_N, OBJECTS_N,
        /* topology */
        sizeof(struct topology_shm), sizeof(struct topology_proc),
        sizeof(struct topology_ring), AT(topology_shm, hash), AT(topology_shm, generation),
        AT(topology_shm, n_lanes), AT(topology_shm, max_in_flight),
        AT(topology_shm, arena_bytes), AT(topology_shm, slab_slots),
        AT(topology_shm, slab_units), AT(topology_shm, lane_state),
        AT(topology_shm, lane_missing), AT(topology_shm, procs), AT(topology_shm, rings),
        AT(topology_ring, kind), AT(topology_ring, lane), AT(topology_ring, from),
        AT(topology_ring, n), AT(topology_ring, bound), AT(topology_ring, bytes),
        /* ring */
        RING_HVER, RING_FLAGS_ALL, RING_SEQ_INVALID, RING_NEW, RING_CLAIMED, RING_ACKED,
        sizeof(struct ring_desc), AT(ring_desc, pos), AT(ring_desc, len),
        AT(ring_desc, type), AT(ring_desc, hver), AT(ring_desc, flags), AT(ring_desc, src),
        AT(ring_desc, ord), AT(ring_desc, epoch), AT(ring_desc, req_id), AT(ring_desc, t0),
        AT(ring_desc, crc), sizeof(struct ring_prod_shm), AT(ring_prod_shm, head),
        AT(ring_prod_shm, space_at), AT(ring_prod_shm, epoch), sizeof(struct ring_cons_shm),
        AT(ring_cons_shm, tail), AT(ring_cons_shm, wake_at), AT(ring_cons_shm, active),
        AT(ring_cons_shm, epoch), AT(ring_cons_shm, state),
        /* slab */
        MAGIC_SLAB, SLAB_UNIT, SLAB_STATE_BYTES, sizeof(struct slab_version),
        sizeof(struct slab_slot_shm), sizeof(struct slab_shm), AT(slab_version, req_id),
        AT(slab_version, in_seq), AT(slab_version, count), AT(slab_version, out_ord),
        AT(slab_version, done), AT(slab_version, ext_off), AT(slab_version, state),
        AT(slab_slot_shm, pay_off), AT(slab_slot_shm, t0), AT(slab_slot_shm, strikes),
        AT(slab_shm, active), AT(slab_shm, aside), AT(slab_shm, slots),
        /* admission and arena */
        MAGIC_ADMISSION, ADMISSION_ID_MAX, ADMISSION_TENANT_MAX, ADMISSION_WAYS,
        FOLLOW_READER, sizeof(struct admission_slot), sizeof(struct follow_bucket),
        sizeof(struct admission_shm), AT(admission_slot, lane), AT(admission_slot, block),
        AT(admission_slot, digest), AT(admission_slot, outcome),
        AT(admission_slot, counted), AT(admission_slot, body_len), AT(admission_slot, record_len), AT(admission_slot, id),
        AT(admission_slot, tenant),
        AT(admission_shm, next_request), AT(admission_shm, total), AT(admission_shm, committed),
        AT(admission_shm, slots),
        MAGIC_ARENA, ARENA_UNIT, sizeof(struct arena_ref), sizeof(struct arena_shm),
        AT(arena_shm, gen),
        /* log */
        MAGIC_LOG, LOG_EXTENT, LOG_EXTENT_HEAD, LOG_ID_MAX, LOG_TENANT_MAX,
        sizeof(struct log_event_head), sizeof(struct log_extent), sizeof(struct log_tail),
        sizeof(struct log_response), sizeof(struct log_shm), AT(log_response, state),
        AT(log_response, end), AT(log_response, first), AT(log_response, id_hash),
        AT(log_response, outcome), AT(log_response, tail), AT(log_response, digest),
        AT(log_response, id), AT(log_response, pending), AT(log_response, restart),
        AT(log_response, stored),
        AT(log_shm, missed),
        AT(log_shm, epoch), AT(log_shm, stored_known), AT(log_shm, responses),
        /* counters and side rings */
        MAGIC_COUNTERS, COUNTERS_N, HISTOGRAMS_N, COUNTERS_BUCKETS, COUNTERS_WORDS_MAX,
        sizeof(struct counters_shm), AT(counters_shm, heartbeat_ns),
        AT(counters_shm, count), AT(counters_shm, redactions), AT(counters_shm, calibration),
        CALIBRATION_MODELS, CALIBRATION_NAME_MAX, CALIBRATION_PARTS, CALIBRATION_WORDS,
        sizeof(struct calibration_row_shm), AT(counters_shm, histogram), MAGIC_SIDE, SIDE_N, SIDE_SLOT,
        sizeof(struct side_shm), AT(side_shm, head), AT(side_shm, slot),
};
/* clang-format on */

uint64_t layout_hash(void) {
        return XXH3_64bits(facts, sizeof(facts));
}
