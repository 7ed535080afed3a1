// apply_cost DIR [ROUNDS]: CPU microseconds an entry that the executor needs, for entries of one, 8 and 40 INSERTs, and of
// what of it the effect chain is (pages hashed, at the price of hashing one). DIR should be in memory.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/clock.h"
#include "command/command.pb.h"
#include "executor/executor.h"
#include "io/posix_disk.h"
#include "ledger/effect.h"

namespace {

using namespace rq;

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::string proposal_of(const std::string& sql, int key) {
  pb::Proposal proposal;
  auto* statement = proposal.mutable_request()->add_statements();
  statement->set_sql(sql);
  if (key >= 0) statement->add_parameters()->mutable_value()->set_integer(key);
  return proposal.SerializeAsString();
}

Result<> apply_entry(executor::Executor& executor, const std::vector<std::string>& proposals) {
  const std::vector<std::string_view> views(proposals.begin(), proposals.end());
  return executor.apply({executor.applied_index().next(), Term{1}, 1, std::string(16, 'x'), views, {}});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 20000;
  io::PosixDisk disk;
  const SystemClock clock;
  executor::Options options;
  options.disk = &disk;
  options.clock = &clock;
  options.dir = argv[1];
  options.checkpoint_inline = true;
  if (!disk.make_dirs(options.dir) || !executor::Executor::wipe(disk, options.dir)) return 1;
  auto opened = executor::Executor::open(options);
  if (!opened) return std::fprintf(stderr, "%s\n", opened.error().text().c_str()), 1;
  auto& executor = **opened;
  if (!apply_entry(executor, {proposal_of("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", -1)})) return 1;
  int key = 0;
  for (const int size : {1, 8, 40}) {
    const double begun = cpu_seconds();
    for (int i = 0; i < rounds; ++i) {
      std::vector<std::string> proposals;
      for (int n = 0; n < size; ++n) proposals.push_back(proposal_of("INSERT INTO t(v) VALUES('hello world '||?)", ++key));
      if (!apply_entry(executor, proposals)) return 1;
    }
    std::printf("entries of %2d: %.2f us of CPU an entry\n", size, (cpu_seconds() - begun) / rounds * 1e6);
  }
  const std::string page(4096, 'p');
  std::uint64_t sum = 0;
  const double begun = cpu_seconds();
  for (std::uint32_t i = 2; i < 200002; ++i) sum += ledger::page_hash(i, page);
  std::printf("hash of a page: %.3f us (%llu)\n", (cpu_seconds() - begun) / 200000 * 1e6, static_cast<unsigned long long>(sum % 10));
}
