/*
 * index_query -- from a question to passages, best first.
 *
 * The query is the OR of the question's words: nothing of it is parsed, so nothing in it can be
 * wrong. Words that it repeats count as often (k3 without bound, as in Lucene's scores); those of
 * earlier turns, and those that expansion adds, count less.
 */
#include "stages/engines/index/xapian_own.hh"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "stages/engines/index/snippet.h"

using namespace index_own;

namespace {

const double EARLIER_WEIGHT = 0.25; /* of a word that only earlier turns have */
const size_t EARLIER_TERMS_MAX = 32;
const double EXPANSION_WEIGHT = 0.3; /* of the best word that expansion adds */
const Xapian::doccount EXPANSION_DOCUMENTS = 10;
const Xapian::termcount EXPANSION_TERMS = 20;
const Xapian::doccount CHUNKS_MERGED = 3; /* of one document, at most */
/* Looking at the clock costs a match an eighth of its time; one of so many postings at most takes tens
 * of milliseconds, and the clock is looked at behind it. */
const uint64_t POSTINGS_UNWATCHED = 1500000;

/* Matches everything and throws once the deadline has passed. Xapian's own time limit only ends its
 * counting of further matches, not the match. */
class deadline_source : public Xapian::PostingSource {
      public:
        explicit deadline_source(uint64_t deadline)
            : deadline_ns(deadline), at(0), last(0), n_docs(0), n_calls(0) {
        }
        Xapian::doccount get_termfreq_min() const override {
                return n_docs;
        }
        Xapian::doccount get_termfreq_est() const override {
                return n_docs;
        }
        Xapian::doccount get_termfreq_max() const override {
                return n_docs;
        }
        Xapian::docid get_docid() const override {
                return at;
        }
        void next(double) override {
                move(at + 1);
        }
        void skip_to(Xapian::docid did, double) override {
                move(std::max(at, did));
        }
        bool check(Xapian::docid did, double) override {
                move(std::max(at, did));
                return true;
        }
        bool at_end() const override {
                return at > last;
        }
        void init(const Xapian::Database &db) override {
                at = 0;
                last = db.get_lastdocid();
                n_docs = db.get_doccount();
        }

      private:
        void move(Xapian::docid to) {
                at = to;
                if ((++n_calls & 255) == 0)
                        check_deadline(deadline_ns);
        }
        uint64_t deadline_ns;
        Xapian::docid at;
        Xapian::docid last;
        Xapian::doccount n_docs;
        uint32_t n_calls;
};

/* ---- words --------------------------------------------------------------------------------- */

typedef std::vector<weighed_term> terms;

/* The rarest ones, with regard to how often they are asked for. */
terms telling_terms(const struct index_reader &reader, const Xapian::Document &doc, size_t most,
                uint64_t deadline_ns) {
        const double n_docs = reader.db.get_doccount();
        std::vector<std::pair<double, weighed_term>> ranked;
        for (auto it = doc.termlist_begin(); it != doc.termlist_end(); ++it) {
                check_deadline(deadline_ns);
                const double freq = reader.db.get_termfreq(*it);
                const double wqf = it.get_wdf();
                if (freq > 0)
                        ranked.push_back({std::log(1 + n_docs / freq) * wqf / (1 + wqf),
                                        {*it, wqf}});
        }
        const size_t keep = std::min<size_t>(ranked.size(), most);
        std::partial_sort(ranked.begin(), ranked.begin() + static_cast<long>(keep), ranked.end(),
                        [](const auto &a, const auto &b) { return a.first > b.first; });
        terms kept;
        for (size_t i = 0; i < keep; i++)
                kept.push_back(ranked[i].second);
        return kept;
}

terms terms_of(struct index_reader &reader, const struct index_str &text, size_t most,
                uint64_t deadline_ns) {
        const size_t half = INDEX_QUERY_BYTES_MAX / 2;
        const size_t head = text.n_bytes > 2 * half ? half : text.n_bytes;
        Xapian::Document doc;
        if (text.n_bytes == 0)
                return terms();
        for (int pass = 0; pass < 2 && doc.termlist_count() == 0; pass++) {
                /* The second pass: a query of stop words only asks for them. */
                reader.generator.set_stopper(pass == 0 ? reader.stopper : operator_words());
                reader.generator.set_document(doc);
                generate(reader.generator, text.data, head);
                if (head < text.n_bytes)
                        generate(reader.generator, text.data + text.n_bytes - half, half);
        }
        reader.generator.set_document(Xapian::Document());
        reader.generator.set_stopper(nullptr);
        if (doc.termlist_count() > most)
                return telling_terms(reader, doc, most, deadline_ns);
        terms all;
        for (auto it = doc.termlist_begin(); it != doc.termlist_end(); ++it)
                all.push_back({*it, static_cast<double>(it.get_wdf())});
        return all;
}

bool has_term(const terms &list, const std::string &term) {
        for (const weighed_term &t : list)
                if (t.term == term)
                        return true;
        return false;
}

Xapian::Query any_of(const terms &list) {
        std::vector<Xapian::Query> parts;
        parts.reserve(list.size());
        for (const weighed_term &t : list)
                parts.emplace_back(t.term, static_cast<Xapian::termcount>(t.weight));
        return Xapian::Query(Xapian::Query::OP_OR, parts.begin(), parts.end());
}

/* ---- which documents ------------------------------------------------------------------------ */

Xapian::Query any_term(const std::vector<std::string> &list) {
        return Xapian::Query(Xapian::Query::OP_OR, list.begin(), list.end());
}

Xapian::Query in_part(Xapian::Query query, const struct index_part &part) {
        std::map<std::string, std::vector<std::string>> pairs;
        std::vector<std::string> collections;
        for (size_t i = 0; i < part.n_pairs; i++) {
                const struct index_pair &pair = part.pairs[i];
                pairs[std::string(pair.key.data, pair.key.n_bytes)].push_back(
                                pair_term(pair.key, pair.value));
        }
        for (const auto &pair : pairs)
                query = Xapian::Query(Xapian::Query::OP_FILTER, query, any_term(pair.second));
        for (size_t i = 0; i < part.n_collections; i++)
                collections.push_back(collection_term(part.collections[i]));
        if (!collections.empty())
                query = Xapian::Query(Xapian::Query::OP_FILTER, query, any_term(collections));
        return query;
}

/* In both parts, and of those that belong to nobody or to the tenant. */
Xapian::Query within(const struct index_reader &reader, Xapian::Query query,
                const struct index_scope &scope) {
        query = in_part(in_part(query, scope.asked), scope.allowed);
        if (!reader.tenants)
                return query;
        Xapian::Query others(PRIVATE_TERM);
        if (scope.tenant.n_bytes > 0)
                others = Xapian::Query(Xapian::Query::OP_AND_NOT, others,
                                Xapian::Query(tenant_term(scope.tenant)));
        return Xapian::Query(Xapian::Query::OP_AND_NOT, query, others);
}

/* ---- pseudo-relevance feedback --------------------------------------------------------------- */

class word_decider : public Xapian::ExpandDecider {
      public:
        explicit word_decider(const terms &there) : had(there) {
        }
        bool operator()(const std::string &term) const override {
                return is_word_term(term) && !has_term(had, term);
        }

      private:
        const terms &had;
};

/* The words that tell the best passages from the others, as a query of its own. */
Xapian::Query expansion(
                const Xapian::Enquire &enquire, const Xapian::MSet &best, const terms &had) {
        const word_decider decider(had);
        std::vector<Xapian::Query> parts;
        Xapian::RSet relevant;
        for (auto it = best.begin(); it != best.end(); ++it)
                relevant.add_document(*it);
        const Xapian::ESet words = enquire.get_eset(EXPANSION_TERMS, relevant, &decider);
        double most = 0;
        for (auto it = words.begin(); it != words.end(); ++it) {
                most = std::max(most, it.get_weight());
                if (it.get_weight() > 0)
                        parts.emplace_back(Xapian::Query::OP_SCALE_WEIGHT, Xapian::Query(*it),
                                        EXPANSION_WEIGHT * it.get_weight() / most);
        }
        return Xapian::Query(Xapian::Query::OP_OR, parts.begin(), parts.end());
}

} // namespace

/* ---- the result ------------------------------------------------------------------------------ */

struct index_result {
        std::string language;
        terms words;
        std::deque<std::string> bytes; /* what the hits point into */
        std::vector<struct index_hit> hits;
};

namespace {

/* Grows a hit by a neighbour that touches it, so that the text between its offsets is all there. */
void merge(struct index_result *result, struct index_hit *hit, const struct index_hit &other) {
        std::string text(hit->text.data, hit->text.n_bytes);
        const std::string more(other.text.data, other.text.n_bytes);
        if (other.start >= hit->start && other.end <= hit->end)
                return;
        if (other.start <= hit->end && other.start >= hit->start) {
                text += more.substr(hit->end - other.start);
                hit->end = other.end;
        } else if (hit->start <= other.end && hit->start >= other.start) {
                text = more + text.substr(other.end - hit->start);
                hit->start = other.start;
                hit->chunk = other.chunk;
                hit->path = other.path;
        } else {
                return;
        }
        result->bytes.push_back(text);
        hit->text = {result->bytes.back().data(), result->bytes.back().size()};
}

/* Best first: the first of a document's chunks is its hit, the others may only widen it. */
void take_hits(const Xapian::MSet &found, const struct index_query &query,
                struct index_result *result) {
        std::map<std::string, size_t> at;
        std::vector<struct index_hit> others;
        for (auto it = found.begin(); it != found.end(); ++it) {
                const Xapian::Document doc = it.get_document();
                const std::string name = query.merge ? doc.get_value(SLOT_DOCUMENT) : "";
                struct stored stored;
                const bool first = name.empty() || at.find(name) == at.end();
                if (first && result->hits.size() == query.k)
                        continue;
                result->bytes.push_back(doc.get_data());
                unpack(result->bytes.back(), &stored);
                stored.hit.score = it.get_weight();
                if (!first) {
                        others.push_back(stored.hit);
                        continue;
                }
                if (!name.empty())
                        at[name] = result->hits.size();
                result->hits.push_back(stored.hit);
        }
        /* Twice: the far one of two neighbours may come before the near one. */
        for (int pass = 0; pass < 2; pass++)
                for (const struct index_hit &other : others)
                        merge(result, &result->hits[at[document_term(other.key)]], other);
}

bool is_long(const struct index_reader &reader, const struct index_query &query, const terms &words,
                const terms &earlier) {
        const uint64_t n = words.size() + earlier.size() + (query.expand ? EXPANSION_TERMS : 0);
        return n * reader.db.get_doccount() > POSTINGS_UNWATCHED;
}

void ask(struct index_reader *reader, const struct index_query &query,
                struct index_result *result) {
        check_deadline(query.deadline_ns);
        result->bytes.clear();
        result->hits.clear();
        result->words = terms_of(*reader, query.text, INDEX_QUERY_TERMS_MAX, query.deadline_ns);
        terms earlier = terms_of(*reader, query.earlier, EARLIER_TERMS_MAX, query.deadline_ns);
        const auto is_known = [&](const weighed_term &t) { return has_term(result->words, t.term); };
        earlier.erase(std::remove_if(earlier.begin(), earlier.end(), is_known), earlier.end());
        if (result->words.empty() && earlier.empty())
                return;
        Xapian::Query any = any_of(result->words);
        if (!earlier.empty())
                any = Xapian::Query(Xapian::Query::OP_OR, any,
                                Xapian::Query(Xapian::Query::OP_SCALE_WEIGHT, any_of(earlier),
                                                EARLIER_WEIGHT));
        deadline_source deadline(query.deadline_ns);
        const bool watched =
                        query.deadline_ns != 0 && is_long(*reader, query, result->words, earlier);
        const auto whole = [&](Xapian::Query part) {
                part = within(*reader, part, query.scope);
                return !watched ? part
                                : Xapian::Query(Xapian::Query::OP_FILTER, part,
                                                  Xapian::Query(&deadline));
        };

        Xapian::Enquire enquire(reader->db);
        enquire.set_weighting_scheme(word_weight());
        enquire.set_query(whole(any));
        if (query.expand) {
                const Xapian::MSet best = enquire.get_mset(0, EXPANSION_DOCUMENTS);
                any = Xapian::Query(Xapian::Query::OP_OR, any,
                                expansion(enquire, best, result->words));
                enquire.set_query(whole(any));
        }
        const Xapian::doccount chunks = reader->collapse && query.merge ? CHUNKS_MERGED : 1;
        if (reader->collapse)
                enquire.set_collapse_key(SLOT_DOCUMENT, chunks);
        const Xapian::MSet found = enquire.get_mset(0, query.k * chunks);
        check_deadline(query.deadline_ns);
        take_hits(found, query, result);
        for (weighed_term &t : result->words)
                t.weight = found.size() > 0 ? found.get_termweight(t.term) : 0;
}

/* By words and by meaning; the words of the result are those of the question, for its snippets. */
void ask_both(struct index_reader *reader, const struct index_query &query,
                struct index_result *result) {
        struct index_query wide = query;
        wide.k = std::max(query.k, FUSED_HITS);
        ask(reader, wide, result);
        const auto allowed = [&](Xapian::Query part) { return within(*reader, part, query.scope); };
        fuse_meaning(*reader, wide, allowed, &result->bytes, &result->hits);
        if (result->hits.size() > query.k)
                result->hits.resize(query.k);
}

/* Which terms of the result's query a piece of a hit's text has. */
struct snippet_context {
        const struct index_result *result;
        Xapian::TermGenerator generator;
};

int terms_in_piece(struct index_str piece, struct snippet_terms *found, void *ctx) {
        auto *context = static_cast<struct snippet_context *>(ctx);
        return guard(nullptr, [&] {
                Xapian::Document doc;
                context->generator.set_document(doc);
                generate(context->generator, piece.data, piece.n_bytes);
                size_t i = 0;
                for (const weighed_term &wanted : context->result->words) {
                        auto it = doc.termlist_begin();
                        it.skip_to(wanted.term);
                        if (it != doc.termlist_end() && *it == wanted.term)
                                found->bits[i / 64] |= uint64_t{1} << (i % 64);
                        i++;
                }
        });
}

} // namespace

/* ---- the C side ------------------------------------------------------------------------------ */

int index_reader_query(struct index_reader *reader, const struct index_query *query,
                struct index_error *err, struct index_result **ret_result) {
        if (query->k == 0 || query->k > INDEX_K_MAX)
                return -EINVAL;
        return guard(err, [&] {
                auto result = std::make_unique<index_result>();
                reader->with_snapshot([&] {
                        if (query->meaning)
                                ask_both(reader, *query, result.get());
                        else
                                ask(reader, *query, result.get());
                });
                result->language = reader->language;
                *ret_result = result.release();
        });
}

struct index_result *index_result_free(struct index_result *result) {
        delete result;
        return nullptr;
}

size_t index_result_n(const struct index_result *result) {
        return result->hits.size();
}

const struct index_hit *index_result_hit(const struct index_result *result, size_t i) {
        return &result->hits[i];
}

int index_result_arrange(struct index_result *result, const size_t *order, const double *scores) {
        return guard(nullptr, [&] {
                std::vector<struct index_hit> hits;
                for (size_t i = 0; i < result->hits.size(); i++) {
                        hits.push_back(result->hits[order[i]]);
                        hits.back().score = scores[i];
                }
                result->hits = hits;
        });
}

void index_result_cut(struct index_result *result, size_t n) {
        if (result->hits.size() > n)
                result->hits.erase(result->hits.begin() + static_cast<long>(n), result->hits.end());
}

int index_result_snippet(const struct index_result *result, size_t i, size_t max_bytes,
                size_t *ret_start, size_t *ret_end) {
        int r = 0;
        const int thrown = guard(nullptr, [&] {
                struct snippet_context context = {result, make_generator(result->language)};
                std::vector<double> weights;
                for (const weighed_term &t : result->words)
                        weights.push_back(t.weight);
                r = snippet_find(result->hits[i].text, max_bytes, weights.data(), weights.size(),
                                terms_in_piece, &context, ret_start, ret_end);
        });
        return thrown != 0 ? thrown : r;
}
