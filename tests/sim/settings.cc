#include "sim/settings.h"

namespace rq::sim {
namespace {

template <class T>
T pick(test::SeededRng& rng, std::initializer_list<T> choices) {
  return choices.begin()[rng.below(choices.size())];
}

void draw_sizes(Settings& s, test::SeededRng& rng) {
  s.limits.group_requests = pick<std::size_t>(rng, {1, 2, 8, 64, 1024});
  s.limits.group_bytes = pick<std::size_t>(rng, {300, 4096, 1u << 20});
  s.limits.queue_requests = pick<std::size_t>(rng, {4, 1000});
  s.engine.max_message_bytes = pick<std::size_t>(rng, {200, 2000, 1u << 20});
  s.engine.max_inflight_messages = pick<std::size_t>(rng, {2, 16, 256});
  s.engine.max_uncommitted_bytes = std::max(s.engine.max_message_bytes + 1, pick<std::size_t>(rng, {2000, 64u << 20}));
  s.engine.max_committed_bytes_per_ready = pick<std::size_t>(rng, {500, 4u << 20});
  s.engine.cache_bytes = pick<std::size_t>(rng, {500, 5000, 8u << 20});
  s.segment_bytes_first = pick<std::uint64_t>(rng, {8 << 10, 16 << 10, 64 << 10});
  s.segment_bytes_max = s.segment_bytes_first * pick<std::uint64_t>(rng, {1, 4});
  s.wal_bytes_soft = pick<std::uint64_t>(rng, {16 << 10, 64 << 10, 4 << 20});
  s.wal_bytes_hard = s.wal_bytes_soft * pick<std::uint64_t>(rng, {2, 16});
  s.snapshot_entries = pick<std::uint64_t>(rng, {0, 20, 20, 100});
  s.trailing_entries = pick<std::uint64_t>(rng, {0, 0, 5, 64});
  s.log_bytes_max = pick<std::uint64_t>(rng, {64 << 10, 1 << 20});
  s.piece_bytes = pick<std::size_t>(rng, {4 << 10, 16 << 10, 1 << 20});
  s.piece_delay = Instant(pick(rng, {1000, 20'000, 100'000}));
  s.apply_queue_entries = pick<std::size_t>(rng, {3, 1000});
}

}  // namespace

Settings Settings::draw(std::uint64_t seed) {
  test::SeededRng rng(seed ^ 0x5e771465);
  Settings s;
  s.voters = pick(rng, {1u, 3u, 3u, 3u, 3u, 5u, 5u});
  s.read_replicas = rng.below(4) == 0 ? 1 : 0;
  s.timing.tick = milliseconds(pick(rng, {10, 20, 50}));
  s.timing.election_ticks = static_cast<int>(pick(rng, {10, 10, 20}));
  s.timing.heartbeat_ticks = static_cast<int>(pick(rng, {1, 2, 3}));
  s.timing.leader_lease = s.timing.tick * s.timing.election_ticks * static_cast<int>(pick(rng, {1, 1, 2})) / 2;
  draw_sizes(s, rng);
  s.wire_codec = rng.below(4) == 0;

  s.net_delay = Instant(pick(rng, {200, 1000, 5000}));
  s.disk_delay = Instant(pick(rng, {200, 2000, 10'000}));
  s.apply_delay = Instant(pick(rng, {50, 500}));
  s.clients = static_cast<unsigned>(2 + rng.below(5));
  s.keys = static_cast<unsigned>(1 + rng.below(3));
  s.accounts = static_cast<unsigned>(2 + rng.below(4));
  s.think = Instant(pick(rng, {2000, 20'000, 60'000}));
  s.noise = rng.below(3) == 0;

  const auto fault = [&](Instant& mean, std::uint64_t one_in, std::initializer_list<int> means_ms) {
    const int ms = pick(rng, means_ms);
    if (rng.below(one_in) == 0) mean = milliseconds(ms);
  };
  fault(s.crash, 2, {400, 1000, 3000});
  fault(s.crash_in_call, 2, {400, 1000, 3000});
  fault(s.partition, 2, {500, 1500, 3000});
  fault(s.slow_disk, 3, {1000, 3000});
  fault(s.full_disk, 4, {1500, 4000});
  fault(s.io_error, 4, {1500, 4000});
  fault(s.clock_jump, 3, {500, 2000});
  fault(s.pause, 3, {500, 2000});
  fault(s.slow_apply, 3, {1000, 3000});
  fault(s.transfer, 3, {300, 1000, 3000});
  fault(s.false_death, 3, {300, 1500});
  fault(s.membership, 3, {500, 1500});
  fault(s.wipe, 4, {2000, 4000});
  fault(s.rot, 4, {1500, 3000});
  Instant retired{0};                    // keeps the draws of old seeds
  fault(retired, 8, {3000});
  fault(s.snapshot_cut, 3, {500, 2000});
  if (rng.below(2) == 0) s.drop_permille = static_cast<unsigned>(pick(rng, {5, 20, 100}));
  if (rng.below(2) == 0) s.duplicate_permille = static_cast<unsigned>(pick(rng, {5, 50}));
  if (rng.below(2) == 0) s.straggle_permille = static_cast<unsigned>(pick(rng, {5, 50}));
  if (rng.below(3) == 0) s.drift_permille = static_cast<unsigned>(pick(rng, {5, 50}));
  if (seed < kSecondGeneration) return s;
  fault(s.rot_database, 2, {1500, 3000});
  fault(s.misdirected, 4, {1500, 3000});
  fault(s.poison, 4, {1500, 3000});
  s.cold = true;
  s.per_node = rng.below(2) == 0;
  return s;
}

// What a node has for itself; the cluster's timings are all nodes'.
Settings Settings::of_node(std::uint64_t seed, unsigned slot) const {
  Settings s = *this;
  if (!per_node) return s;
  test::SeededRng rng(seed * 31 + slot);
  draw_sizes(s, rng);
  return s;
}

std::string Settings::text() const {
  std::string out = std::to_string(voters) + " voters, " + std::to_string(read_replicas) + " read replicas, " + std::to_string(clients) + " clients; faults:";
  const std::pair<const char*, Instant> faults[] = {
      {"crash", crash}, {"crash-in-call", crash_in_call}, {"partition", partition}, {"slow-disk", slow_disk}, {"full-disk", full_disk}, {"io-error", io_error},
      {"clock-jump", clock_jump}, {"pause", pause}, {"slow-apply", slow_apply}, {"transfer", transfer}, {"false-death", false_death}, {"membership", membership},
      {"wipe", wipe}, {"rot", rot}, {"snapshot-cut", snapshot_cut},
      {"rot-database", rot_database}, {"misdirected", misdirected}, {"poison", poison}};
  for (const auto& [name, mean] : faults)
    if (mean.count() > 0) out += " " + std::string(name);
  if (drop_permille) out += " drop";
  if (duplicate_permille) out += " duplicate";
  if (straggle_permille) out += " straggle";
  if (drift_permille) out += " drift";
  if (per_node) out += "; sizes by node";
  return out;
}

}  // namespace rq::sim
