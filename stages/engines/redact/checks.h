/*
 * checks -- what a pattern can not say of a find: check digits, lengths by country, strict forms.
 *
 * Shape   one function for each entity that has one, all of one type; the families of check digits
 *         below them
 * Units   bytes
 * Owner   pure functions over the caller's text
 * Errors  none: what is no such thing is dropped
 * Limits  a find is at most REDACT_HELD bytes
 *
 * A check may shorten a find that its pattern took too much into: never lengthen it, never move its
 * start.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum check_verdict {
        CHECK_DROP,
        CHECK_KEEP, /* nothing can be said: the pattern's score stands */
        CHECK_SURE, /* confirmed: at least the entity's own score */
};

typedef enum check_verdict check_fn(const char *p, uint32_t *n);

/* ---- check_digits.c: numbers with a check digit ---- */
check_fn check_none, check_ssn, check_aba, check_npi, check_dea, check_nhs, check_de_tax,
                check_fr_nir, check_it_vat, check_pesel, check_aadhaar, check_abn, check_acn,
                check_tfn, check_medicare, check_rrn, check_tckn;
/* ---- check_letters.c: codes with a check letter ---- */
check_fn check_es_nif, check_it_fiscal, check_hetu, check_nric;
/* ---- check_card.c, check_iban.c, check_phone.c, check_net.c, check_crypto.c ---- */
check_fn check_card, check_iban, check_phone, check_ip, check_mac, check_email, check_url,
                check_crypto;

/* ---- families ---- */

/* The digits of a text as numbers 0..9, at most cap; others are passed over. Returns how many. */
uint32_t check_digits(const char *p, uint32_t n, uint8_t *to, uint32_t cap);
/* Luhn's sum of all digits is a multiple of 10; `carry` is what digits before them add. */
bool check_luhn(const uint8_t *digits, uint32_t n, uint32_t carry);
/* The sum of digits times weights. */
uint32_t check_weighted(const uint8_t *digits, const uint8_t *weights, uint32_t n);

static inline bool check_is_digit(char c) {
        return c >= '0' && c <= '9';
}
static inline bool check_is_letter(char c) {
        return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}
static inline bool check_is_alnum(char c) {
        return check_is_digit(c) || check_is_letter(c);
}
static inline char check_upper(char c) {
        return c >= 'a' && c <= 'z' ? (char)(c - 0x20) : c;
}
