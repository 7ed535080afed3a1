#include "cluster/proof_rules.h"

#include <algorithm>

namespace rq::cluster {
namespace {

bool majority_of(const std::vector<RaftId>& voters, const ProofReports& reports, const ProofReport& wanted) {
  const auto count = std::ranges::count_if(voters, [&](RaftId id) {
    const auto report = reports.find(id);
    return report != reports.end() && report->second == wanted;
  });
  return static_cast<std::size_t>(count) * 2 > voters.size();
}

}  // namespace

ProofVerdict judge(const raft::ConfState& conf, const ProofReports& reports) {
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
    if (both) verdict.agreed = report;
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
