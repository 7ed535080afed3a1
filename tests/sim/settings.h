// What one seed draws (swarm testing): sizes, timings, which faults and how often. No two seeds stress the same things.
#pragma once

#include <string>

#include "replica/driver.h"
#include "sim/world.h"

namespace rq::sim {

// Seeds below it have only the faults that the simulator knew when they were judged first: what they found can be replayed.
inline constexpr std::uint64_t kSecondGeneration = 1u << 20;

struct Settings {
  // the cluster
  unsigned voters = 3, read_replicas = 0;
  unsigned nodes_max = 6;                 // members that may be added
  replica::Timing timing;
  replica::Limits limits;
  raft::Options engine;
  std::uint64_t segment_bytes_first = 64 << 10, segment_bytes_max = 256 << 10;
  std::uint64_t wal_bytes_soft = 64 << 10, wal_bytes_hard = 1 << 20;
  std::uint64_t snapshot_entries = 0;     // a snapshot each so many entries; 0: none
  std::uint64_t trailing_entries = 64;
  std::uint64_t log_bytes_max = 1 << 20;
  std::size_t piece_bytes = 16 << 10;     // of an image under way
  Instant piece_delay{1000};
  std::size_t apply_queue_entries = 1000; // beyond it entries are read from the log again
  bool wire_codec = false;                // messages become bytes and back

  // how long things take
  Instant net_delay{500}, disk_delay{1000}, apply_delay{200};
  Instant storm = seconds(8), calm = seconds(60);

  // the work
  unsigned clients = 4, keys = 2, accounts = 4;
  Instant think{20'000};
  bool noise = false;                     // random SQL beside it
  bool cold = false;                      // a table that is written and whose content nobody judges: what rots is there

  // Faults: mean times between two of a kind; 0: none.
  Instant crash{0}, crash_in_call{0}, partition{0}, slow_disk{0}, full_disk{0}, io_error{0}, clock_jump{0}, pause{0}, slow_apply{0}, transfer{0}, false_death{0},
      membership{0}, wipe{0}, rot{0}, snapshot_cut{0};
  Instant rot_database{0}, misdirected{0}, poison{0};   // second generation
  unsigned drop_permille = 0, duplicate_permille = 0, straggle_permille = 0;   // of messages
  unsigned drift_permille = 0;            // clocks run so much faster or slower, at most

  bool per_node = false;                  // sizes differ between the nodes

  static Settings draw(std::uint64_t seed);
  Settings of_node(std::uint64_t seed, unsigned slot) const;
  std::string text() const;
};

}  // namespace rq::sim
