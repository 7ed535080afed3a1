#include "cluster/proof_rules.h"

#include <algorithm>
#include <iterator>
#include <set>

namespace rq::cluster {
namespace {

bool majority_of(const std::vector<RaftId>& voters, const ProofReports& reports, const ProofReport& wanted) {
  const auto count = std::ranges::count_if(voters, [&](RaftId id) {
    const auto report = reports.find(id);
    return report != reports.end() && report->second == wanted;
  });
  return static_cast<std::size_t>(count) * 2 > voters.size();
}

// One name for all that are copies of one another, directly or not: the lowest id.
RaftId origin_of(RaftId member, const ProofCopies& copies) {
  std::set<RaftId> kin{member};
  for (std::size_t before = 0; before != kin.size();) {
    before = kin.size();
    for (const auto& [copy, sources] : copies) {
      if (!kin.contains(copy) && std::ranges::none_of(sources, [&](RaftId source) { return kin.contains(source); })) continue;
      kin.insert(copy);
      kin.insert(sources.begin(), sources.end());
    }
  }
  return *kin.begin();
}

// Whether there are, or may be, as many who contradict and are no copies of the wanted value's holders: counted by origins, those
// that hold both values left out; voters that have not reported may hold any.
bool outweighed(const raft::ConfState& conf, const ProofReports& reports, const ProofCopies& copies, const ProofReport& wanted) {
  std::map<std::uint64_t, std::set<RaftId>> origins{{wanted.value, {}}};      // value -> of its holders
  for (const auto& [member, report] : reports)
    if (report.value != 0 && report.engine == wanted.engine && conf.is_voter(member)) origins[report.value].insert(origin_of(member, copies));
  const std::set<RaftId> own = origins[wanted.value];
  std::set<RaftId> silent;
  for (const auto* half : {&conf.voters, &conf.voters_outgoing})
    for (const RaftId voter : *half)
      if (!reports.contains(voter) && !own.contains(origin_of(voter, copies))) silent.insert(origin_of(voter, copies));
  if (origins.size() == 1) return !silent.empty() && silent.size() >= own.size();
  return std::ranges::any_of(origins, [&](const auto& other) {
    if (other.first == wanted.value) return false;
    std::set<RaftId> against = silent;
    std::ranges::copy_if(other.second, std::inserter(against, against.end()), [&](RaftId origin) { return !own.contains(origin); });
    const auto for_it = std::ranges::count_if(own, [&](RaftId origin) { return !other.second.contains(origin); });
    return !against.empty() && static_cast<std::ptrdiff_t>(against.size()) >= for_it;
  });
}

}  // namespace

bool written_over(const ProofReports& chains, const ProofReports& scrub) {
  return std::ranges::all_of(chains, [&](const auto& chain) {
    const auto found = scrub.find(chain.first);
    return found != scrub.end() && found->second == scrub.begin()->second;
  });
}

ProofVerdict judge(const raft::ConfState& conf, const ProofReports& reports, const ProofCopies& copies) {
  ProofVerdict verdict;
  std::map<std::uint64_t, std::uint64_t> first_of_engine;
  bool differ = false;
  const auto has_reported = [&](RaftId id) { return reports.contains(id); };
  verdict.complete = std::ranges::all_of(conf.voters, has_reported) && std::ranges::all_of(conf.voters_outgoing, has_reported);
  for (const auto& [member, report] : reports) {
    if (report.value == 0 || !conf.is_voter(member)) continue;
    const auto [first, fresh] = first_of_engine.try_emplace(report.engine, report.value);
    differ |= !fresh && first->second != report.value;
    const bool both = majority_of(conf.voters, reports, report) && (conf.voters_outgoing.empty() || majority_of(conf.voters_outgoing, reports, report));
    if (both && !outweighed(conf, reports, copies, report)) verdict.agreed = report;
  }
  if (!verdict.agreed) {
    verdict.contradiction = differ;
    return verdict;
  }
  for (const auto& [member, report] : reports)
    if (report.value != 0 && report.engine == verdict.agreed->engine && report.value != verdict.agreed->value) verdict.odd.push_back(member);
  return verdict;
}

}  // namespace rq::cluster
