// MemoryDisk: an io::Disk in memory that fails on purpose and forgets what was not synced.
//
// Folders are there as long as they hold something; one is renamed with all in it, durable when either parent is synced.
// Contents written are visible at once and durable after sync() of the file; names are durable after sync_dir(). After
// lose_power() only durable names with durable contents are left, plus what the mode says of the unsynced operations.
// Files opened before a power loss fail from then on. Deterministic; thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "io/disk.h"

namespace rq::test {

// Small and seeded: equal seeds give equal runs.
class SeededRng final : public Rng {
 public:
  explicit SeededRng(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() override {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }

 private:
  std::uint64_t state_;
};

class MemoryDisk final : public io::Disk {
 public:
  enum class Loss {
    All,       // every unsynced operation
    Suffix,    // a random prefix of the unsynced operations of all files, in their order, survives
    Sectors,   // any subset of the unsynced 512-byte sectors survives (torn and reordered writes)
    None,      // only the process died: what was written is there, synced or not
  };

  MemoryDisk();
  ~MemoryDisk() override;

  Result<std::unique_ptr<io::File>> open(const std::string& path, io::OpenMode mode) override;
  Result<> remove(const std::string& path) override;
  Result<> remove_dir(const std::string& path) override;
  Result<> rename(const std::string& from, const std::string& to) override;
  Result<> link(const std::string& from, const std::string& to) override;
  Result<std::vector<std::string>> list(const std::string& dir) override;
  Result<bool> exists(const std::string& path) override;
  Result<> make_dirs(const std::string& dir) override;
  Result<> sync_dir(const std::string& dir) override;
  Result<std::uint64_t> free_bytes(const std::string& dir) override;

  void lose_power(SeededRng& rng, Loss loss);
  // The n-th call from now on (1: the next that changes or syncs anything) fails with `code`; with `for_ever` all after it too.
  void fail_call(std::uint64_t n, Errc code, bool for_ever = false);
  void heal();                              // no more failures
  bool failed() const;                      // a call failed since fail_call()
  void set_capacity(std::uint64_t bytes);   // beyond it writes fail with NoSpace
  void leave_free(std::uint64_t bytes);     // the capacity is what is used now and so much more
  std::uint64_t calls() const;              // that could have failed, so far
  std::string contents(const std::string& path) const;
  void overwrite(const std::string& path, const std::string& bytes);   // bit rot: durable at once

  struct Inode;

 private:
  friend class MemoryFile;
  Result<> tick(std::string_view call, const std::string& path);
  Result<> make_room(std::uint64_t bytes);
  bool is_folder(const std::string& path) const;

  mutable std::mutex mutex_;                // guards all below and the inodes
  std::map<std::string, std::shared_ptr<Inode>> names_, durable_names_;
  std::vector<std::pair<std::string, std::string>> moved_folders_;   // from, to: not durable yet, in order
  std::uint64_t operations_ = 0;
  std::uint64_t epoch_ = 0;
  std::uint64_t calls_ = 0;
  std::uint64_t fail_at_ = 0;
  Errc fail_code_ = Errc::Io;
  bool fail_for_ever_ = false;
  std::uint64_t capacity_ = UINT64_MAX, used_ = 0;
};

}  // namespace rq::test

namespace rq::testing {
using rq::test::MemoryDisk;
using rq::test::SeededRng;
}  // namespace rq::testing
