#include "stages/engines/redact/sha256.h"

#include <string.h>

#define BLOCK 64u

static const uint32_t k[64] = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b,
                0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
                0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6,
                0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d,
                0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
                0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
                0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585,
                0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
                0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa,
                0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turn(uint32_t v, unsigned by) {
        return v >> by | v << (32 - by);
}

static void block(uint32_t state[8], const uint8_t *p) {
        uint32_t w[64], s[8];

        for (unsigned i = 0; i < 16; i++)
                w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
                       (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
        for (unsigned i = 16; i < 64; i++) {
                uint32_t a = w[i - 15], b = w[i - 2];
                w[i] = w[i - 16] + w[i - 7] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) +
                       (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
        }
        memcpy(s, state, sizeof(s));
        for (unsigned i = 0; i < 64; i++) {
                uint32_t a = s[0], e = s[4];
                uint32_t one = s[7] + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) +
                               ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
                uint32_t two = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) +
                               ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
                memmove(s + 1, s, 7 * sizeof(s[0]));
                s[4] += one;
                s[0] = one + two;
        }
        for (unsigned i = 0; i < 8; i++)
                state[i] += s[i];
}

void sha256(const void *bytes, uint32_t n, uint8_t ret[SHA256_BYTES]) {
        uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
                        0x1f83d9ab, 0x5be0cd19};
        const uint8_t *p = bytes;
        uint8_t last[2 * BLOCK] = {0};
        uint64_t bits = (uint64_t)n * 8;
        uint32_t left = n, end;

        for (; left >= BLOCK; left -= BLOCK, p += BLOCK)
                block(state, p);
        if (left)
                memcpy(last, p, left);
        last[left] = 0x80;
        end = left < BLOCK - 8 ? BLOCK : 2 * BLOCK;
        for (unsigned i = 0; i < 8; i++)
                last[end - 1 - i] = (uint8_t)(bits >> 8 * i);
        block(state, last);
        if (end > BLOCK)
                block(state, last + BLOCK);
        for (unsigned i = 0; i < SHA256_BYTES; i++)
                ret[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256_hmac(const void *key, uint32_t n_key, const void *p, uint32_t n,
                uint8_t ret[SHA256_BYTES]) {
        uint8_t pad[BLOCK] = {0}, text[BLOCK + SHA256_HMAC_MAX];

        if (n_key > BLOCK)
                sha256(key, n_key, pad);
        else if (n_key)
                memcpy(pad, key, n_key);
        if (n > SHA256_HMAC_MAX)
                n = SHA256_HMAC_MAX;
        for (unsigned i = 0; i < BLOCK; i++)
                text[i] = pad[i] ^ 0x36;
        memcpy(text + BLOCK, p, n);
        sha256(text, BLOCK + n, ret);
        for (unsigned i = 0; i < BLOCK; i++)
                text[i] = pad[i] ^ 0x5c;
        memcpy(text + BLOCK, ret, SHA256_BYTES);
        sha256(text, BLOCK + SHA256_BYTES, ret);
}
