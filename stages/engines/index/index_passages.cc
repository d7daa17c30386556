/*
 * index_passages -- passages by their numbers: all of them for those who make vectors, and the near
 * ones of a question joined with what its words found.
 */
#include "stages/engines/index/xapian_own.hh"

#include <algorithm>
#include <cstdlib>

#include <xxhash.h>

#include "stages/engines/index/fusion.h"

using namespace index_own;

namespace {

/* The near passages in the order of their numbers, weighed by how near they are. */
class near_source : public Xapian::PostingSource {
      public:
        explicit near_source(std::vector<struct index_near> passages)
            : rows(std::move(passages)), at(0), begun(false) {
                const auto order = [](const struct index_near &a, const struct index_near &b) {
                        return a.passage < b.passage;
                };
                std::sort(rows.begin(), rows.end(), order);
                least = 0;
                double most = 0;
                for (const struct index_near &row : rows) {
                        least = std::min<double>(least, row.score);
                        most = std::max<double>(most, row.score);
                }
                set_maxweight(most - least); /* a weight is never negative */
        }
        Xapian::doccount get_termfreq_min() const override {
                return 0;
        }
        Xapian::doccount get_termfreq_est() const override {
                return static_cast<Xapian::doccount>(rows.size());
        }
        Xapian::doccount get_termfreq_max() const override {
                return static_cast<Xapian::doccount>(rows.size());
        }
        double get_weight() const override {
                return rows[at].score - least;
        }
        Xapian::docid get_docid() const override {
                return rows[at].passage;
        }
        void next(double) override {
                if (begun)
                        at++;
                begun = true;
        }
        void skip_to(Xapian::docid did, double) override {
                begun = true;
                while (at < rows.size() && rows[at].passage < did)
                        at++;
        }
        bool at_end() const override {
                return begun && at >= rows.size();
        }
        void init(const Xapian::Database &) override {
                at = 0;
                begun = false;
        }
        double floor() const {
                return least;
        }

      private:
        std::vector<struct index_near> rows;
        size_t at;
        bool begun;
        double least;
};

typedef std::function<Xapian::Query(Xapian::Query)> narrowing;

/* False: there may be more among those that are less near. */
bool take_near(const struct index_reader &reader, const struct index_query &query,
                const narrowing &allowed, const std::vector<struct index_near> &rows, bool all,
                std::deque<std::string> *bytes, std::vector<struct index_hit> *hits) {
        near_source source(rows);
        Xapian::Enquire enquire(reader.db);
        enquire.set_query(Xapian::Query(Xapian::Query::OP_FILTER, allowed(Xapian::Query(&source)),
                        Xapian::Query::MatchAll)); /* some passages may be gone */
        if (reader.collapse)
                enquire.set_collapse_key(SLOT_DOCUMENT);
        const Xapian::MSet found = enquire.get_mset(0, query.k);
        if (found.size() < query.k && !all)
                return false;
        for (auto it = found.begin(); it != found.end(); ++it) {
                struct stored stored;
                bytes->push_back(it.get_document().get_data());
                unpack(bytes->back(), &stored);
                stored.hit.score = it.get_weight() + source.floor();
                const auto is_it = [&](const struct index_near &row) { return row.passage == *it; };
                const auto row = std::find_if(rows.begin(), rows.end(), is_it);
                if (row->hash == index_passage_hash(&stored.hit))
                        hits->push_back(stored.hit);
        }
        return true;
}

/* A filter may leave few of the nearest: then more of them are asked for. */
std::vector<struct index_hit> near_hits(const struct index_reader &reader,
                const struct index_query &query, const narrowing &allowed,
                std::deque<std::string> *bytes) {
        std::vector<struct index_hit> hits;
        for (size_t n = size_t{4} * query.k;; n *= 8) {
                std::vector<struct index_near> rows(n);
                rows.resize(query.meaning->nearest(query.meaning->ctx, n, rows.data()));
                check_deadline(query.deadline_ns);
                if (rows.empty() ||
                                take_near(reader, query, allowed, rows, rows.size() < n, bytes, &hits))
                        return hits;
        }
}

/* names: what the entries point into. */
std::vector<struct fusion_entry> entries_of(
                const std::vector<struct index_hit> &hits, std::deque<std::string> *names) {
        std::vector<struct fusion_entry> entries;
        for (const struct index_hit &hit : hits) {
                names->push_back(document_term(hit.key));
                entries.push_back({{names->back().data(), names->back().size()}, hit.score});
        }
        return entries;
}

} // namespace

void index_own::fuse_meaning(const struct index_reader &reader, const struct index_query &query,
                const narrowing &allowed, std::deque<std::string> *bytes,
                std::vector<struct index_hit> *hits) {
        const std::vector<struct index_hit> near = near_hits(reader, query, allowed, bytes);
        std::deque<std::string> names;
        const std::vector<struct fusion_entry> words = entries_of(*hits, &names);
        const std::vector<struct fusion_entry> meant = entries_of(near, &names);
        const struct fusion_list lists[2] = {
                        {words.data(), words.size()}, {meant.data(), meant.size()}};
        std::vector<struct fusion_pick> picks(words.size() + meant.size());
        size_t n = 0;
        if (fusion_join(query.meaning->fusion, lists, picks.data(), &n) != 0)
                throw std::bad_alloc();
        std::vector<struct index_hit> joined;
        for (size_t i = 0; i < n; i++) { /* the passage of the list that has it higher up */
                const struct fusion_pick &pick = picks[i];
                joined.push_back(pick.at[0] <= pick.at[1] ? (*hits)[pick.at[0]] : near[pick.at[1]]);
                joined.back().score = pick.score;
        }
        *hits = joined;
}

/* ---- the C side ------------------------------------------------------------------------------ */

uint64_t index_passage_hash(const struct index_hit *hit) {
        const struct index_str parts[] = {hit->title, hit->path, hit->text};
        uint64_t hash = 0;
        for (const struct index_str &part : parts)
                hash = XXH3_64bits_withSeed(part.data ? part.data : "", part.n_bytes, hash);
        return hash;
}

int index_reader_passages(struct index_reader *reader, uint32_t from,
                int (*fn)(uint32_t passage, const struct index_hit *hit, void *ctx), void *ctx,
                struct index_error *err) {
        int stopped = 0;
        Xapian::docid next = from > 0 ? from : 1; /* where to go on when the snapshot is lost */
        const int r = guard(err, [&] {
                reader->with_snapshot([&] {
                        auto it = reader->db.postlist_begin("");
                        for (it.skip_to(next); it != reader->db.postlist_end("") && stopped == 0;
                                        ++it) {
                                const std::string data = reader->db.get_document(*it).get_data();
                                struct stored stored;
                                unpack(data, &stored);
                                next = *it + 1;
                                stopped = fn(*it, &stored.hit, ctx);
                        }
                });
        });
        return r != 0 ? r : stopped;
}
