/*
 * check -- what tests/stages/gateway/rig.c asserts, for a program that is no suite of Check: it aborts.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define ck_abort_msg(...) (fprintf(stderr, __VA_ARGS__), abort())
#define ck_assert(what) ((what) ? (void)0 : ck_abort_msg("%s:%d: %s\n", __FILE__, __LINE__, #what))
#define ck_assert_msg(what, ...) ((what) ? (void)0 : ck_abort_msg(__VA_ARGS__))
#define ck_assert_int_eq(a, b) ck_assert((a) == (b))
#define ck_assert_int_ne(a, b) ck_assert((a) != (b))
#define ck_assert_int_ge(a, b) ck_assert((a) >= (b))
#define ck_assert_ptr_null(a) ck_assert(!(a))
#define ck_assert_ptr_nonnull(a) ck_assert(a)
