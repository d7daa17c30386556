#include "stages/engines/redact/checks.h"

#include <string.h>

#include "stages/engines/redact/sha256.h"

#define BASE58_BYTES 25u /* version, 20 bytes of hash, 4 of check */
#define BECH32 1u
#define BECH32M 0x2bc830a3u

/* A number of base 58 whose last four bytes are the double hash of the others. */
static bool base58_check(const char *p, uint32_t n) {
        static const char alphabet[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
        uint8_t bytes[BASE58_BYTES] = {0}, hash[SHA256_BYTES];

        for (uint32_t i = 0; i < n; i++) {
                const char *at = strchr(alphabet, p[i]);
                uint32_t carry;
                if (!at)
                        return false;
                carry = (uint32_t)(at - alphabet);
                for (uint32_t b = BASE58_BYTES; b-- > 0;) {
                        carry += 58u * bytes[b];
                        bytes[b] = (uint8_t)carry;
                        carry >>= 8;
                }
                if (carry)
                        return false;
        }
        sha256(bytes, BASE58_BYTES - 4, hash);
        sha256(hash, sizeof(hash), hash);
        return !memcmp(hash, bytes + BASE58_BYTES - 4, 4);
}

static uint32_t polymod_step(uint32_t check, uint32_t value) {
        static const uint32_t generator[] = {
                        0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3};
        uint32_t top = check >> 25;

        check = (check & 0x1ffffff) << 5 ^ value;
        for (unsigned i = 0; i < 5; i++)
                if (top >> i & 1)
                        check ^= generator[i];
        return check;
}

/* BIP 173 and 350: prefix, 1, data; all of one case. */
static bool bech32(const char *p, uint32_t n) {
        static const char alphabet[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
        const char *one = memchr(p, '1', n);
        uint32_t check = 1, prefix = (uint32_t)(one - p);
        bool lower = false, upper = false;

        for (uint32_t i = 0; i < n; i++) {
                lower |= p[i] >= 'a' && p[i] <= 'z';
                upper |= p[i] >= 'A' && p[i] <= 'Z';
        }
        if (lower && upper)
                return false;
        for (uint32_t i = 0; i < prefix; i++)
                check = polymod_step(check, (uint32_t)(p[i] | 0x20) >> 5);
        check = polymod_step(check, 0);
        for (uint32_t i = 0; i < prefix; i++)
                check = polymod_step(check, (uint32_t)(p[i] | 0x20) & 31);
        for (uint32_t i = prefix + 1; i < n; i++) {
                char c = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 0x20) : p[i];
                const char *at = strchr(alphabet, c);
                if (!at)
                        return false;
                check = polymod_step(check, (uint32_t)(at - alphabet));
        }
        return check == BECH32 || check == BECH32M;
}

enum check_verdict check_crypto(const char *p, uint32_t *n) {
        if (p[0] == '0')
                return CHECK_KEEP;
        if (check_is_letter(p[0]) && (p[1] | 0x20) >= 'a' && memchr(p, '1', 4))
                return bech32(p, *n) ? CHECK_SURE : CHECK_DROP;
        return base58_check(p, *n) ? CHECK_SURE : CHECK_DROP;
}
