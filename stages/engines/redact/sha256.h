/*
 * sha256 -- FIPS 180-4's SHA-256, and HMAC (RFC 2104) over it.
 *
 * Shape   one call over bytes that are all there
 * Owner   all memory is the caller's
 * Errors  none
 * Limits  small inputs: nothing is streamed
 */
#pragma once

#include <stdint.h>

#define SHA256_BYTES 32u
#define SHA256_HMAC_MAX 4096u /* of the text of an HMAC */

void sha256(const void *p, uint32_t n, uint8_t ret[SHA256_BYTES]);
/* A key longer than a block is hashed first; text beyond SHA256_HMAC_MAX is left out. */
void sha256_hmac(const void *key, uint32_t n_key, const void *p, uint32_t n,
                uint8_t ret[SHA256_BYTES]);
