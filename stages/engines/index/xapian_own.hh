/*
 * xapian_own -- what the index's C++ files share; nothing else includes it.
 *
 * Shape   one Xapian document for each chunk. Its terms: stems without prefix and without
 *         positions; "Q" names the document (collection, tenant, id), "C" its collection, "T" the tenant that
 *         it belongs to and "P" that it belongs to one, "M" a pair of its metadata. What follows
 *         these letters stands behind an "i", or as a hash behind an "l" where it is long. Slot 0:
 *         the "Q" term again, in documents of several chunks, to collapse on; its data: stored.h.
 *         Metadata of the database: "millrace.format", "millrace.language", "millrace.totals"
 * Owner   a Xapian object belongs to one thread
 * Errors  an exception becomes a code and a sentence in guard(): nothing C++ leaves these files
 * Limits  as index.h
 */
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include <xapian.h>

#include "stages/engines/index/folder.h"
#include "stages/engines/index/index.h"
#include "stages/engines/index/stored.h"

namespace index_own {

inline const char META_FORMAT[] = "millrace.format";
inline const char META_LANGUAGE[] = "millrace.language";
inline const char META_TOTALS[] = "millrace.totals";
inline const Xapian::valueno SLOT_DOCUMENT = 0;

/* ---- errors ---- */

struct failure {
        int code;
        std::string text;
};

/* To be called in a catch block: the code of what was thrown, and the sentence. */
int explain(struct index_error *err) noexcept;

template <typename F> int guard(struct index_error *err, F &&body) noexcept {
        try {
                body();
                return 0;
        } catch (...) {
                return explain(err);
        }
}

/* A C function of ours has failed, and has said why. */
void must(int r, const struct index_error &why);

uint64_t now_ns();
void check_deadline(uint64_t deadline_ns);

/* ---- what lies in the database ---- */

void unpack(const std::string &data, struct stored *ret_stored);
/* False: a database that a killed writer made and never wrote to. */
bool check_format(const Xapian::Database &db);
struct index_stats read_totals(const Xapian::Database &db);

/* The key with its collection named. */
struct index_key named(const struct index_key &key);

/* ---- terms ---- */

std::string document_term(const struct index_key &key);
std::string collection_term(const struct index_str &collection);
std::string tenant_term(const struct index_str &tenant);
std::string pair_term(const struct index_str &key, const struct index_str &value);
inline const char PRIVATE_TERM[] = "P";
/* Of a word in a text, and not one of the above? No stem starts with a capital. */
inline bool is_word_term(const std::string &term) {
        return term.empty() || term[0] < 'A' || term[0] > 'Z';
}

/* Index and query are cut into terms by the same object: what was indexed is what is asked for. */
Xapian::TermGenerator make_generator(const std::string &language);
/* Adds the words of a text to the generator's document. */
void generate(Xapian::TermGenerator &generator, const char *data, size_t n,
                Xapian::termcount weight = 1);

/* What a query is asked without: the stop words of its language, or at least what other engines take
 * for operators. They live for ever. */
const Xapian::Stopper *stop_words(const std::string &language);
const Xapian::Stopper *operator_words();
/* Words that a query repeats count as often (k3 without bound). */
inline Xapian::BM25Weight word_weight() {
        return Xapian::BM25Weight(1.2, 0, 1000, 0.75, 0.5);
}

struct weighed_term {
        std::string term;
        double weight; /* how often the query has it; in a result what it added to a score at most
                        */
};

/* How deep the two lists go that are joined. */
inline const uint32_t FUSED_HITS = 100;

} // namespace index_own

struct index_reader {
        std::string path;
        std::string language;
        Xapian::Database db;
        Xapian::TermGenerator generator;
        const Xapian::Stopper *stopper;
        bool collapse; /* some document has several chunks */
        bool tenants;  /* some document belongs to one */
        struct folder_stamp seen;

        explicit index_reader(const char *folder)
            : path(folder), stopper(nullptr), collapse(false), tenants(false) {
                seen = folder_stamp();
        }
        void open();
        void refresh();
        template <typename F> void with_snapshot(F &&body);
};

/* Xapian keeps the blocks of a snapshot only until the second commit after it: against a writer
 * that commits faster than we read, a query starts over so often. */
inline const int REOPENS_MAX = 32;

template <typename F> void index_reader::with_snapshot(F &&body) {
        for (int i = 0; i < REOPENS_MAX; i++) {
                try {
                        if (i == 0)
                                refresh();
                        else
                                open();
                        body();
                        return;
                } catch (const Xapian::DatabaseModifiedError &) {
                        continue;
                }
        }
        throw index_own::failure{INDEX_E_ENGINE, "the index changes faster than it can be read"};
}

namespace index_own {

/* Joins the hits found by words with the passages that are near by meaning: index_passages.cc.
 * allowed: narrows a query to the documents asked for. */
void fuse_meaning(const struct index_reader &reader, const struct index_query &query,
                const std::function<Xapian::Query(Xapian::Query)> &allowed,
                std::deque<std::string> *bytes, std::vector<struct index_hit> *hits);

} // namespace index_own
