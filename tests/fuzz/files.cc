#include <algorithm>
#include <string>

#include "base/assert.h"
#include "fuzz/targets.h"
#include "executor/image_digest.h"
#include "ledger/effect.h"
#include "ledger/ledger.h"
#include "ledger/recovery.h"
#include "ledger/sqlite_wal.h"
#include "support/memory_disk.h"
#include "wal/log.h"

namespace rq::fuzz {
namespace {

constexpr std::size_t kFileMax = 1u << 20;

// Cuts a file off the front: two bytes of length in units of 16, then its bytes.
std::string take_file(std::string_view& input) {
  if (input.size() < 2) return {};
  const auto byte = [&](std::size_t at) { return static_cast<std::size_t>(static_cast<unsigned char>(input[at])); };
  const std::size_t size = std::min<std::size_t>(16 * (byte(0) | byte(1) << 8), input.size() - 2);
  std::string out(input.substr(2, std::min(size, kFileMax)));
  input.remove_prefix(2 + size);
  return out;
}

void put(test::MemoryDisk& disk, const std::string& path, const std::string& bytes) {
  const auto file = disk.open(path, io::OpenMode::CreateOrOpen);
  RQ_ASSERT(file.has_value());
  RQ_ASSERT((*file)->write_at(0, bytes).has_value());
  RQ_ASSERT((*file)->sync().has_value());
}

// One held image made of arbitrary bytes.
class Bytes final : public raft::StateMachine {
 public:
  explicit Bytes(std::string bytes) : bytes_(std::move(bytes)) {}
  Index applied_index() const override { return Index{1}; }
  Result<> apply(const raft::Group&) override { return {}; }
  Result<> skip(Index, Term) override { return {}; }
  void idle() override {}
  Result<raft::MachineSnapshot> snapshot() override { return raft::MachineSnapshot{.index = Index{1}, .id = 1, .bytes = bytes_.size()}; }
  Result<std::string> persist(std::uint64_t, std::uint64_t offset, std::size_t size) override {
    return offset >= bytes_.size() ? std::string() : bytes_.substr(offset, size);
  }
  void release(std::uint64_t) override {}
  Result<> restore(const raft::MachineSnapshot&, const std::string&) override { return {}; }
  bool look_ahead(const raft::Group&, Index) override { return false; }

 private:
  const std::string bytes_;
};

}  // namespace

// Two segments, of which the second may be missing; what the log accepts it accepts again, unchanged.
void log_segment(std::string_view input) {
  test::MemoryDisk disk;
  std::string_view rest = input;
  const std::string first = take_file(rest), second = take_file(rest);
  put(disk, "/raft/wal-00000000000000000001-0000000001", first);
  if (!second.empty()) put(disk, "/raft/wal-00000000000000000002-0000000002", second);
  const wal::Options options{.segment_bytes_first = 4096, .segment_bytes_max = 8192, .record_bytes_max = 1u << 20};
  wal::Recovered recovered;
  {
    const Result<wal::Log::Opened> opened = wal::Log::open(disk, "/raft", options);
    if (!opened) return;
    recovered = opened->recovered;
    if (recovered.first <= recovered.last) (void)opened->log->read(recovered.first, recovered.last, 1u << 20);
  }
  const Result<wal::Log::Opened> again = wal::Log::open(disk, "/raft", options);
  RQ_ASSERT(again.has_value());
  RQ_ASSERT(again->recovered.last == recovered.last);
  RQ_ASSERT(again->recovered.hard_state == recovered.hard_state);
}

void ledger_files(std::string_view input) {
  test::MemoryDisk disk;
  std::string_view rest = input;
  const std::string ledger = take_file(rest), wal = take_file(rest), install = take_file(rest), database(rest);
  const ledger::Paths paths = ledger::paths_in("/data");
  if (!ledger.empty()) put(disk, paths.ledger, ledger);
  if (!wal.empty()) put(disk, paths.wal, wal);
  if (!install.empty()) put(disk, paths.install, install);
  if (!database.empty()) put(disk, paths.database, database);
  (void)ledger::read(disk, paths.ledger);
  const ledger::Position bootstrap{Index{1}, Term{1}, ledger::kFirstChain, {}};
  ledger::Position position;
  {
    const auto recovered = ledger::recover(disk, paths, bootstrap);
    if (!recovered) return;
    position = (*recovered)->position();
  }
  const auto again = ledger::recover(disk, paths, bootstrap);   // recovery leaves what recovery understands
  RQ_ASSERT(again.has_value());
  RQ_ASSERT((*again)->position() == position);
}

void image(std::string_view input) {
  if (input.size() >= 8) (void)ledger::trunk_hash(2, ledger::parse_trunk(input));
  Bytes machine{std::string(input)};
  executor::ImageDigest digest(machine, *machine.snapshot());
  Result<bool> done = digest.step(4096);
  while (done && !*done) done = digest.step(4096);
  if (done) (void)digest.value();
}

}  // namespace rq::fuzz
