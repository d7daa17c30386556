/*
 * http_ask -- what a request's headers ask for beside its body (contract, section 3).
 *
 * Shape   a head and a body -> struct ask, as views into both
 * Units   milliseconds
 * Owner   views live as long as the bytes
 * Errors  0 or the error's code; words that name the header
 * Limits  as ask.h
 */
#pragma once

#include "stages/common/http1.h"
#include "stages/gateway/ask.h"

/* The value of NAME in NAME=VALUE&…, as it stands. False: it is not there. */
bool http_query(struct mr_view query, const char *name, struct mr_view *ret);
/* 1 to 18 digits and nothing else. */
bool http_number(struct mr_view text, uint64_t *ret);

/* ret->id is set even when something else is wrong. */
int http_ask(const struct http1_request *request, struct mr_view body, struct ask *ret,
                struct ask_error *ret_error);
/* The same from the bytes of a request whose body is decoded behind its head. */
int http_ask_again(const uint8_t *bytes, uint32_t len, struct ask *ret,
                struct ask_error *ret_error);
