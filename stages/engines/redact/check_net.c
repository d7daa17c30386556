#include "stages/engines/redact/checks.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define TLD_MAX 24u

/* IANA's root zone, sorted. */
static const char *const tlds[] = {
#define TLD(name) #name,
#include "stages/engines/redact/tlds.def"
#undef TLD
};
#define TLDS_N (sizeof(tlds) / sizeof(tlds[0]))

static int tld_compare(const void *key, const void *row) {
        return strcmp(key, *(const char *const *)row);
}

/* Names in scripts of their own are known only as their registries wrote them in ASCII: xn--. */
static bool known_tld(const char *p, uint32_t n) {
        char name[TLD_MAX];

        if (n >= 4 && p[0] == 'x' && !memcmp(p, "xn--", 4))
                return true;
        if (n == 0 || n >= TLD_MAX)
                return false;
        for (uint32_t i = 0; i < n; i++)
                name[i] = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 0x20) : p[i];
        name[n] = 0;
        return bsearch(name, tlds, TLDS_N, sizeof(tlds[0]), tld_compare) != NULL;
}

/* What stands after a host's last dot. */
static const char *last_label(const char *host, uint32_t n) {
        uint32_t at = n;

        while (at > 0 && host[at - 1] != '.')
                at--;
        return host + at;
}

/* Many intranets have names that no registry knows: such an address is one all the same, less surely. */
/* Up to a space that does not break, or a sign of the scripts that write without spaces: U+3000 to
 * U+303F, U+FF00 to U+FF3F. */
static uint32_t before_sign(const char *p, uint32_t n) {
        for (uint32_t i = 0; i + 1 < n; i++)
                if (!memcmp(p + i, "\xe3\x80", 2) || !memcmp(p + i, "\xef\xbc", 2) ||
                                !memcmp(p + i, "\xc2\xa0", 2))
                        return i;
        return n;
}

/* Without letters of another script that follow a known top-level domain. */
static uint32_t without_letters(const char *label, uint32_t n) {
        uint32_t ascii = 0;

        while (ascii < n && !(label[ascii] & 0x80))
                ascii++;
        return ascii < n && known_tld(label, ascii) ? ascii : n;
}

enum check_verdict check_email(const char *p, uint32_t *n) {
        const char *label;

        *n = before_sign(p, *n);
        while (p[*n - 1] == '-')
                (*n)--;
        label = last_label(p, *n);
        *n = (uint32_t)(label - p) + without_letters(label, (uint32_t)(p + *n - label));
        if (label + 2 > p + *n)
                return CHECK_DROP;
        return known_tld(label, (uint32_t)(p + *n - label)) ? CHECK_SURE : CHECK_KEEP;
}

/* ---- URLs ---- */

/* Where host, and port if any, end. */
static uint32_t host_end(const char *p, uint32_t from, uint32_t n) {
        while (from < n && p[from] != '/' && p[from] != '?' && p[from] != '#')
                from++;
        return from;
}

static bool all_upper(const char *p, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                if (p[i] >= 'a' && p[i] <= 'z')
                        return false;
        return true;
}

/* A bare name in prose or in a program: what ends as files or as members of things do is one, and a capital
 * after a dot begins a sentence. */
static bool plain_name(
                const char *host, uint32_t n, const char *label, uint32_t n_label, bool path) {
        static const char *const names[] = {"bat", "cab", "call", "cc", "channel", "data", "date",
                        "directory", "events", "fast", "free", "group", "java", "md", "mov", "name",
                        "next", "open", "page", "pid", "pl", "place", "post", "ps", "py", "read",
                        "rs", "select", "sh", "so", "stream", "style", "top", "zip"};
        static const char *const shouted[] = {"COM", "EDU", "GOV", "ORG"};

        if (n > 4 && !strncasecmp(host, "www.", 4))
                return label > host + 4; /* a name of its own between the two */
        if (label[0] >= 'A' && label[0] <= 'Z') {
                for (uint32_t i = 0; i < sizeof(shouted) / sizeof(shouted[0]); i++)
                        if (n_label == 3 && !memcmp(label, shouted[i], 3))
                                return all_upper(host, n);
                return false;
        }
        if (path)
                return true;
        for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (strlen(names[i]) == n_label && !memcmp(label, names[i], n_label))
                        return false;
        return true;
}

/* Is each bracket that is closed one that was opened? */
static bool opened(const char *p, uint32_t n) {
        int open = 0;

        for (uint32_t i = 0; i < n; i++)
                open += (p[i] == '(') - (p[i] == ')');
        return open >= 0;
}

/* Punctuation at the end belongs to the sentence, and a bracket that the URL did not open. */
static uint32_t without_punctuation(const char *p, uint32_t n, uint32_t least) {
        while (n > least) {
                char c = p[n - 1];
                if (n >= least + 3 && !memcmp(p + n - 3, "\xe2\x80", 2)) { /* U+2000 to U+203F */
                        n -= 3;
                        continue;
                }
                if (c == ')' && opened(p, n))
                        break;
                if (!strchr(".,;:!?)]}*_|", c) || c == 0)
                        break;
                n--;
        }
        return n;
}

enum check_verdict check_url(const char *p, uint32_t *n) {
        const char *scheme = *n > 8 ? memchr(p, ':', 6) : NULL;
        bool has_scheme = scheme && !memcmp(scheme, "://", 3);
        uint32_t from = has_scheme ? (uint32_t)(scheme - p) + 3 : 0;
        uint32_t all = before_sign(p, *n), end = host_end(p, from, all), host = end, n_label;
        const char *at = memchr(p + from, '@', end - from), *colon, *label;

        if (has_scheme && at)
                from = (uint32_t)(at - p) + 1;
        colon = memchr(p + from, ':', end - from);
        if (colon)
                host = (uint32_t)(colon - p);
        label = last_label(p + from, host - from);
        n_label = without_letters(label, (uint32_t)(p + host - label));
        if (label + n_label < p + host)
                all = host = end = (uint32_t)(label - p) + n_label;
        if (!known_tld(label, n_label))
                return CHECK_DROP;
        if (!has_scheme && !plain_name(p, host, label, n_label, end < all))
                return CHECK_DROP;
        *n = without_punctuation(p, all, host);
        return has_scheme ? CHECK_SURE : CHECK_KEEP;
}

/* ---- addresses ---- */

/* How many bytes of a prefix length are one: `/` and at most `most`; else it is none. */
static uint32_t prefix_bytes(const char *p, uint32_t n, uint32_t most) {
        uint32_t bits = 0;

        if (n < 2 || n > 4)
                return 0;
        for (uint32_t i = 1; i < n; i++)
                bits = bits * 10 + (uint32_t)(p[i] - '0');
        return bits <= most ? n : 0;
}

/* Letters only between colons are names in a program, such as dead::beef, more often than not. */
static bool has_digit(const char *p, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                if (check_is_digit(p[i]))
                        return true;
        return false;
}

static enum check_verdict ip6(const char *p, uint32_t *n, uint32_t address) {
        struct in6_addr parsed;
        char text[64];
        uint32_t rest = address;

        while (address > 2 &&
                        (p[address - 1] == '.' || (p[address - 1] == ':' && p[address - 2] != ':')))
                address--;
        if (address >= sizeof(text) || !has_digit(p, address))
                return CHECK_DROP;
        memcpy(text, p, address);
        text[address] = 0;
        if (inet_pton(AF_INET6, text, &parsed) != 1)
                return CHECK_DROP;
        if (rest != address) {
                *n = address;
                return CHECK_KEEP;
        }
        if (rest < *n && p[rest] == '%') /* the zone */
                do
                        rest++;
                while (rest < *n && p[rest] != '/');
        *n = rest + (rest < *n ? prefix_bytes(p + rest, *n - rest, 128) : 0);
        return CHECK_KEEP;
}

enum check_verdict check_ip(const char *p, uint32_t *n) {
        uint32_t address = 0;

        while (address < *n && p[address] != '/' && p[address] != '%')
                address++;
        if (address == 2 && !memcmp(p, "::", 2))
                return CHECK_KEEP;
        if (memchr(p, ':', address))
                return ip6(p, n, address);
        for (uint32_t i = 0; i + 1 < address;
                        i++) /* 01 is how phone numbers are written, and no octet */
                if (p[i] == '0' && check_is_digit(p[i + 1]) && (i == 0 || p[i - 1] == '.'))
                        return CHECK_DROP;
        return CHECK_KEEP;
}

enum check_verdict check_mac(const char *p, uint32_t *n) {
        char first = 0;

        for (uint32_t i = 0; i < *n; i++) {
                char c = check_upper(p[i]);
                if (!check_is_alnum(c))
                        continue;
                if (!first)
                        first = c;
                else if (c != first)
                        return CHECK_KEEP;
        }
        return first == '0' || first == 'F' ? CHECK_DROP : CHECK_KEEP;
}
