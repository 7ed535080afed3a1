#include "sim/raft_checks.h"

namespace rq::sim {

std::uint64_t hash_of(std::string_view bytes, std::uint64_t seed) {
  std::uint64_t hash = seed;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

std::uint64_t hash_of(const raft::Entry& entry) {
  return hash_of(entry.payload ? std::string_view(*entry.payload) : std::string_view(), 14695981039346656037u + static_cast<std::uint64_t>(entry.type));
}

RaftChecks::Found RaftChecks::leads(RaftId node, Term term) {
  const auto [place, fresh] = leaders_.emplace(term.value, node.value);
  if (fresh || place->second == node.value) return std::nullopt;
  return "two leaders in term " + std::to_string(term.value);
}

RaftChecks::Found RaftChecks::votes(RaftId voter, Term term, RaftId candidate) {
  const auto [place, fresh] = votes_.emplace(std::pair(voter.value, term.value), candidate.value);
  if (fresh || place->second == candidate.value) return std::nullopt;
  return "a member voted twice in term " + std::to_string(term.value);
}

RaftChecks::Found RaftChecks::logged(const raft::Entry& entry, Term before) {
  const std::pair facts(hash_of(entry), before.value);
  const auto [place, fresh] = logged_.emplace(std::pair(entry.index.value, entry.term.value), facts);
  if (fresh || place->second == facts) return std::nullopt;
  return "logs don't match at index " + std::to_string(entry.index.value) + ", term " + std::to_string(entry.term.value);
}

RaftChecks::Found RaftChecks::committed(const raft::Entry& entry) {
  const Name name{entry.term.value, hash_of(entry)};
  const auto [place, fresh] = committed_.emplace(entry.index.value, name);
  if (fresh || place->second == name) return std::nullopt;
  return "two entries were committed at index " + std::to_string(entry.index.value) + ": one of term " +
         std::to_string(place->second.term) + " and one of term " + std::to_string(entry.term.value) +
         (place->second.hash == name.hash ? ", with the same bytes" : "");
}

RaftChecks::Found RaftChecks::result(Index index, std::uint64_t hash) {
  const auto [place, fresh] = results_.emplace(index.value, hash);
  if (fresh || place->second == hash) return std::nullopt;
  return "the entry at index " + std::to_string(index.value) + " had another result on another node";
}

RaftChecks::Found RaftChecks::chain(Index index, std::uint64_t value) {
  if (value == 0) return std::nullopt;
  const auto [place, fresh] = chains_.emplace(index.value, value);
  if (fresh || place->second == value) return std::nullopt;
  return "effect chains differ at index " + std::to_string(index.value);
}

RaftChecks::Found RaftChecks::state(Index index, std::uint64_t hash) {
  const auto [place, fresh] = states_.emplace(index.value, hash);
  states_compared_ += fresh ? 0 : 1;
  if (fresh || place->second == hash) return std::nullopt;
  return "databases differ at index " + std::to_string(index.value);
}

}  // namespace rq::sim
