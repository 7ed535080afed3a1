// A SQLite VFS whose files lie on an io::Disk (MemoryDisk: fails on purpose, forgets unsynced writes). Locks and shared
// memory live in the heap, per path, as between connections of one process. Temporary files are plain memory.
//
// "Power loss": close all connections, let the disk forget, and use a new DiskVfs: nothing but the disk survives.
#pragma once

#include <memory>
#include <string>

#include "io/disk.h"

namespace rq::test {

class DiskVfs {
 public:
  explicit DiskVfs(io::Disk& disk);   // registered under name() until destruction
  ~DiskVfs();
  DiskVfs(const DiskVfs&) = delete;
  const std::string& name() const;
  // Another file has the name now: connections opened from here on share nothing with those that have the old one.
  void replaced(const std::string& path);

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace rq::test
