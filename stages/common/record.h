/*
 * record -- what travels in the rings: one msgpack map with small integer keys.
 *
 * Shape   record.def: one row a field. A decoded record is a set of views into the caller's buffer.
 * Units   named by each field
 * Owner   the decoder holds a reusable zone, so that decoding allocates nothing in steady state;
 *         views live as long as the buffer that was decoded and until the decoder's next decode
 * Errors  0, -EPROTO (not a record: broken msgpack, wrong type of a known field, too deep, trailing
 *         bytes), -ENOBUFS (encode: does not fit)
 * Limits  depth <= 16, RECORD_UNKNOWN_MAX unknown keys kept, sizes bounded by the ring's max_rec
 *
 * The life of a request in the rings:
 *   gateway REQUEST -> rag REQUEST (documents) -> assemble REQUEST (pieces) -> inference
 *   inference -> post -> stream: REQUEST (its head: RECORD_HEAD) DELTA* (DONE | ERROR)
 * An error raised before inference is a record of type ERROR that still carries the request's
 * fields; inference answers it with the head and the ERROR. So post and stream always see the head
 * first.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <msgpack.h>

enum record_type {
        RECORD_REQUEST = 1,
        RECORD_DELTA = 2,
        RECORD_DONE = 3,
        RECORD_ERROR = 4,
        RECORD_RESTART = 5, /* inference runs a detached request anew; the error for who has read it */
        RECORD_CANCEL = 6,  /* control rings */
        RECORD_NOTICE = 7,  /* stream -> gateway: look at this response; no payload */
        RECORD_LOOKUP = 8,  /* gateway -> stream: an id that the database may have */
        RECORD_ABSENT = 9,  /* stream -> gateway: it has not (RING_ERROR: it cannot be asked) */
};

enum record_option {
        OPTION_DETACH = 1,
        OPTION_STREAM = 2, /* the client wants deltas as they come */
        OPTION_RAG_OFF = 4,
        OPTION_RAG_ON = 8,
        OPTION_ID_MADE = 16,     /* the daemon made the id */
        OPTION_USAGE_ASKED = 32, /* the client's body asks for usage in the stream */
        OPTION_BODY_BUILT = 64, /* body was built here, of a prompt, messages or a response */
        OPTION_DEADLINE_FIRST = 128, /* the deadline holds until the first token only */
        OPTION_CHOICES = 256,   /* more than one answer is asked for */
        OPTION_ESTIMATED = 512, /* who answers has no tokens of its own: max_tokens is held by the estimate */
        OPTION_SESSION = 1024, /* a part of its session, which is kept: its client keeps none itself */
};

/* What a backend is asked; its paths are OpenAI's. */
enum record_endpoint {
        ENDPOINT_CHAT,        /* chat/completions */
        ENDPOINT_COMPLETIONS, /* completions: the prompt is one text, and the body goes out as it came */
        ENDPOINT_EMBEDDINGS,  /* embeddings: neither prompt nor stream; the answer is passed on whole */
        ENDPOINTS_N
};

enum cancel_reason {
        CANCEL_CLIENT = 1,
        CANCEL_DISCONNECT,
        CANCEL_DEADLINE,
        CANCEL_DRAIN,
        CANCEL_STOP,
        CANCEL_LOST, /* it has ended already: what runs anew is for nobody */
};

enum mr_error {
#define E(name, status, retryable, sentence) MR_E_##name,
#include "stages/common/errors.def"
#undef E
        MR_ERRORS_N
};
const char *mr_error_name(enum mr_error code); /* "internal" for numbers out of range */
unsigned mr_error_status(enum mr_error code);
bool mr_error_retryable(enum mr_error code);

struct mr_view {
        const char *p;
        uint32_t n;
};

enum record_kind { KIND_UINT, KIND_STR, KIND_BIN, KIND_RAW };

#define RECORD_TYPE_UINT uint64_t
#define RECORD_TYPE_STR struct mr_view
#define RECORD_TYPE_BIN struct mr_view
#define RECORD_TYPE_RAW const msgpack_object *

enum record_field {
#define F(key, name, kind, by, sentence) FIELD_##name,
#include "stages/common/record.def"
#undef F
        FIELDS_N
};
static_assert(FIELDS_N <= 64, "presence is one word");
#define HAS(field) (1ull << FIELD_##field)

#define RECORD_UNKNOWN_MAX 16

/* A decoded record, or one to be encoded: `has` says which members count. */
struct record {
        uint64_t has;
#define F(key, name, kind, by, sentence) RECORD_TYPE_##kind name;
#include "stages/common/record.def"
#undef F
        uint32_t n_unknown; /* fields of a newer version, passed on as they are */
        struct {
                uint64_t key;
                const msgpack_object *value;
        } unknown[RECORD_UNKNOWN_MAX];
};

/* What inference forwards of a REQUEST. */
#define RECORD_HEAD                                                                                \
        (HAS(gateway) | HAS(id) | HAS(tenant) | HAS(options) | HAS(model) | HAS(session) |         \
                        HAS(deadline_ns) | HAS(priority) | HAS(digest_hi) | HAS(digest_lo) |       \
                        HAS(rag_us) | HAS(assemble_us) | HAS(prompt_tokens) | HAS(redacted) |      \
                        HAS(stop) | HAS(response_format) | HAS(max_tokens) | HAS(safety) |         \
                        HAS(tripwire))

struct record_decoder {
        msgpack_zone zone;
        bool used; /* something was put into the zone since it was cleared */
};
int record_decoder_init(struct record_decoder *decoder); /* 0 or -ENOMEM */
void record_decoder_close(struct record_decoder *decoder);
/* 0, -EPROTO, -ENOMEM. Members that are not in `has` are zero. Objects and views of the decode
 * before are gone. */
int record_decode(struct record_decoder *decoder, const void *bytes, uint32_t len,
                struct record *ret);

/* Writes a record straight into `to` (ring memory or a buffer). 0 or -ENOBUFS. */
int record_encode(const struct record *record, uint8_t *to, uint32_t cap, uint32_t *ret_len);
/* An upper bound of the encoded size, to reserve room. */
uint32_t record_size_bound(const struct record *record);

/* A flat writer over a fixed buffer, for RAW values and frames: msgpack_pack_* on &w->pk. `full` is
 * set instead of writing beyond cap. */
struct pack_buf {
        msgpack_packer pk;
        uint8_t *at;
        uint32_t len, cap;
        bool full;
};
void pack_buf_init(struct pack_buf *w, uint8_t *to, uint32_t cap);
/* Packed bytes of a RAW field that was built by hand, as an object to be assigned to it. 0,
 * -EPROTO, -ENOMEM. It lives in the decoder's zone like what was decoded (so: after record_decode
 * of the input, before the next one), and refers to `bytes`. */
int record_raw_parse(struct record_decoder *decoder, const void *bytes, uint32_t len,
                const msgpack_object **ret);

/* The length that comes next in `cuts`; moves on. */
uint32_t record_cut_take(struct mr_view *cuts);

const char *record_field_name(enum record_field field);
const char *record_field_sentence(enum record_field field);
const char *record_type_name(uint16_t type);

/* ---- msgpack from strangers: bounds first, then the library ---- */

enum msgpack_scan {
        MSGPACK_SCAN_DONE,   /* one whole object: s->at bytes */
        MSGPACK_SCAN_MORE,   /* incomplete so far */
        MSGPACK_SCAN_BROKEN, /* not msgpack */
        MSGPACK_SCAN_DEEP,   /* deeper than max_depth */
        MSGPACK_SCAN_LARGE,  /* longer than max_len */
};
#define MSGPACK_SCAN_DEPTH_MAX 32u
/* Walks one object without allocating: where does it end, and is it within bounds? Resumable: after
 * MORE call again with the longer buffer (the same bytes first); work already done is not repeated.
 * Depth counts containers: a scalar is 0, an array of scalars 1. */
struct msgpack_scanner {
        uint64_t at; /* bytes walked; may lie beyond what has come (a payload to be skipped) */
        uint32_t depth;
        uint64_t left[MSGPACK_SCAN_DEPTH_MAX + 1]; /* items left on each level */
};
void msgpack_scanner_init(struct msgpack_scanner *s);
/* max_depth <= MSGPACK_SCAN_DEPTH_MAX. */
enum msgpack_scan msgpack_scan(struct msgpack_scanner *s, const uint8_t *bytes, uint64_t len,
                uint32_t max_depth, uint64_t max_len);
