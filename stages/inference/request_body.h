/*
 * request_body -- the client's body, wherever it travels: in the record, or in a gateway's arena.
 *
 * Shape   reads by offset
 * Units   byte offsets into the body
 * Owner   an inline body lies in the slab; an arena's bytes are copied before they are looked at
 * Errors  0, REQUEST_BODY_E_GONE (the arena block was freed: the request has ended elsewhere),
 * -EPROTO (the record names bytes that are not there) Limits  a window is at most INFERENCE_WINDOW
 * bytes of an arena, or the whole inline body
 */
#pragma once

#include "stages/common/record.h"
#include "stages/engines/json/marks.h"

struct flight;

enum request_body_error { REQUEST_BODY_E_GONE = 1 };

uint32_t request_body_len(struct flight *f);
/* Copies [off, off + len). */
int request_body_copy(struct flight *f, uint32_t off, uint32_t len, void *to);
/* Bytes from `off` on, at least one; valid until the next window of another flight. */
int request_body_window(struct flight *f, uint32_t off, const uint8_t **ret, uint32_t *ret_len);
/* The byte spans that the gateway found; all zero when the record has none. 0 or -EPROTO. */
int request_body_marks(struct flight *f, struct body_marks *ret);
/* One of assemble's pieces. *ret_span: the bytes of the body that it is, or stands in the place of; len
 * 0: none. *ret_literal: what it says itself; NULL: those bytes. 0 or -EPROTO. */
int request_piece(const msgpack_object *piece, struct body_span *ret_span,
                const msgpack_object **ret_literal);
/* The first piece, from *index on, that stands in the place of bytes of the body at `off` or behind it;
 * *index moves on to it. False: there is none. */
bool request_replaced(struct flight *f, uint32_t off, uint32_t *index, struct body_span *ret_span,
                struct mr_view *ret_instead);
