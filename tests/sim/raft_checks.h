// What Raft promises, watched from outside over all nodes and all their lives.
//   - one leader a term; one vote a voter and term (Raft section 5.2)
//   - logs match: an index and a term name one entry, and one predecessor (5.3)
//   - state machine safety: one entry was ever committed at an index (5.4.3), and it has one result everywhere
// Each function answers what is wrong, or nothing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "raft/engine.h"

namespace rq::sim {

class RaftChecks {
 public:
  using Found = std::optional<std::string>;
  Found leads(RaftId node, Term term);
  Found votes(RaftId voter, Term term, RaftId candidate);
  // The entry stands in some log behind an entry of term `before`.
  Found logged(const raft::Entry& entry, Term before);
  Found committed(const raft::Entry& entry);
  // What applying the entry at `index` came to, as a hash.
  Found result(Index index, std::uint64_t hash);
  // The effect chain behind `index`; 0: not known.
  Found chain(Index index, std::uint64_t value);
  // The state of the database at `index`.
  Found state(Index index, std::uint64_t hash);
  Index last_committed() const { return committed_.empty() ? Index{1} : Index{committed_.rbegin()->first}; }
  std::size_t terms_led() const { return leaders_.size(); }
  std::size_t states_compared() const { return states_compared_; }

 private:
  struct Name {
    std::uint64_t term = 0, hash = 0;
    bool operator==(const Name&) const = default;
  };
  std::map<std::uint64_t, std::uint64_t> leaders_;                                       // term -> node
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> votes_;              // voter, term -> candidate
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::pair<std::uint64_t, std::uint64_t>> logged_;   // index, term -> hash, term before
  std::map<std::uint64_t, Name> committed_;
  std::map<std::uint64_t, std::uint64_t> results_, states_, chains_;
  std::size_t states_compared_ = 0;
};

std::uint64_t hash_of(std::string_view bytes, std::uint64_t seed = 14695981039346656037u);
std::uint64_t hash_of(const raft::Entry& entry);

}  // namespace rq::sim
