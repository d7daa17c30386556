/*
 * xapian_own -- errors, terms and marks of the database, which reading and writing share.
 */
#include "stages/engines/index/xapian_own.hh"

#include <cerrno>
#include <cstdio>
#include <ctime>

#include <xxhash.h>

#include "stages/engines/index/identifier.h"

namespace index_own {

namespace {

const size_t NAME_MAX_BYTES = 200; /* of a term behind its letters: Xapian takes 245 bytes, and a
                                      NUL takes two */

void say(struct index_error *err, const std::string &text) noexcept {
        if (err)
                snprintf(err->text, sizeof(err->text), "%s", text.c_str());
}

std::string words_of(const Xapian::Error &error) {
        std::string text = error.get_msg();
        if (error.get_error_string())
                text = text + ": " + error.get_error_string();
        return text;
}

} // namespace

int explain(struct index_error *err) noexcept {
        try {
                throw;
        } catch (const failure &f) {
                say(err, f.text);
                return f.code;
        } catch (const Xapian::DatabaseLockError &) {
                say(err, "another process is writing to this index");
                return INDEX_E_LOCKED;
        } catch (const Xapian::DatabaseVersionError &e) {
                say(err, "an index of another version of Xapian: " + words_of(e));
                return INDEX_E_VERSION;
        } catch (const Xapian::DatabaseCorruptError &e) {
                say(err, "the index is damaged: " + words_of(e));
                return INDEX_E_CORRUPT;
        } catch (const Xapian::Error &e) {
                say(err, words_of(e));
                return INDEX_E_ENGINE;
        } catch (const std::bad_alloc &) {
                say(err, "out of memory");
                return -ENOMEM;
        } catch (const std::exception &e) {
                say(err, e.what());
                return INDEX_E_ENGINE;
        }
}

void must(int r, const struct index_error &why) {
        if (r != 0)
                throw failure{r, why.text};
}

uint64_t now_ns() {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return static_cast<uint64_t>(ts.tv_sec) * 1000000000u + static_cast<uint64_t>(ts.tv_nsec);
}

void check_deadline(uint64_t deadline_ns) {
        if (deadline_ns != 0 && now_ns() >= deadline_ns)
                throw failure{INDEX_E_DEADLINE, "the deadline of the query has passed"};
}

/* ---- what lies in the database ------------------------------------------------------------- */

void unpack(const std::string &data, struct stored *ret_stored) {
        if (stored_unpack(data.data(), data.size(), ret_stored) != 0)
                throw failure{INDEX_E_CORRUPT, "the index is damaged: a chunk's data is broken"};
}

bool check_format(const Xapian::Database &db) {
        const std::string format = db.get_metadata(META_FORMAT);
        if (format.empty()) {
                if (db.get_lastdocid() == 0 && db.metadata_keys_begin() == db.metadata_keys_end())
                        return false;
                throw failure{INDEX_E_FOREIGN, "a Xapian database of another program"};
        }
        if (format != std::to_string(INDEX_FORMAT))
                throw failure{INDEX_E_VERSION, "an index of format " + format.substr(0, 32) +
                                                               ", this program reads format " +
                                                               std::to_string(INDEX_FORMAT) +
                                                               ": remove the folder and add the documents again"};
        return true;
}

struct index_stats read_totals(const Xapian::Database &db) {
        unsigned long long documents = 0;
        unsigned long long chunks = 0;
        unsigned long long bytes = 0;
        const std::string totals = db.get_metadata(META_TOTALS);
        if (!totals.empty() &&
                        sscanf(totals.c_str(), "%llu %llu %llu", &documents, &chunks, &bytes) != 3)
                throw failure{INDEX_E_CORRUPT, "the index is damaged: its totals are no numbers"};
        struct index_stats stats = {};
        stats.documents = documents;
        stats.chunks = chunks;
        stats.bytes = bytes;
        return stats;
}

struct index_key named(const struct index_key &key) {
        struct index_key whole = key;
        if (key.collection.n_bytes == 0)
                whole.collection = {INDEX_COLLECTION_DEFAULT, sizeof(INDEX_COLLECTION_DEFAULT) - 1};
        return whole;
}

/* ---- terms --------------------------------------------------------------------------------- */

namespace {

/* "i" sorts before "l": a listing has the short names first, in order. */
std::string name_term(char letter, const std::string &name) {
        if (name.size() <= NAME_MAX_BYTES)
                return std::string(1, letter) + "i" + name;
        const XXH128_hash_t hash = XXH3_128bits(name.data(), name.size());
        char hex[36];
        snprintf(hex, sizeof(hex), "%cl%016llx%016llx", letter,
                        static_cast<unsigned long long>(hash.high64),
                        static_cast<unsigned long long>(hash.low64));
        return hex;
}

std::string text_of(const struct index_str &str) {
        return std::string(str.data ? str.data : "", str.n_bytes);
}

} // namespace

std::string document_term(const struct index_key &key) {
        std::string name = text_of(key.collection);
        name += '\0';
        name += text_of(key.tenant);
        name += '\0';
        name += text_of(key.id);
        return name_term('Q', name);
}

std::string collection_term(const struct index_str &collection) {
        return name_term('C', text_of(collection));
}

std::string tenant_term(const struct index_str &tenant) {
        return name_term('T', text_of(tenant));
}

std::string pair_term(const struct index_str &key, const struct index_str &value) {
        return name_term('M', text_of(key) + "=" + text_of(value));
}

Xapian::TermGenerator make_generator(const std::string &language) {
        Xapian::TermGenerator generator;
        generator.set_flags(Xapian::TermGenerator::FLAG_CJK_NGRAM);
        generator.set_stemmer(Xapian::Stem(language));
        generator.set_stemming_strategy(Xapian::TermGenerator::STEM_ALL);
        generator.set_stopper_strategy(Xapian::TermGenerator::STOP_ALL);
        return generator;
}

namespace {

int take_part(struct index_str part, void *ctx) {
        auto *words = static_cast<std::string *>(ctx);
        return guard(nullptr, [&] { words->append(part.data, part.n_bytes).append(1, ' '); });
}

} // namespace

void generate(Xapian::TermGenerator &generator, const char *data, size_t n,
                Xapian::termcount weight) {
        std::string words;
        if (n == 0)
                return;
        generator.index_text_without_positions(Xapian::Utf8Iterator(data, n), weight);
        if (identifier_parts({data, n}, take_part, &words) != 0)
                throw std::bad_alloc();
        if (!words.empty())
                generator.index_text_without_positions(words, weight);
}

} // namespace index_own
