// Finds the newest snapshot in a data directory of the reference, whatever version wrote it, and says of which files the
// database consists. Reads metadata only; image.h puts the database together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/types.h"
#include "import/raft_log.h"
#include "io/disk.h"

namespace rq::import {

struct SnapshotFile {
  std::string path;
  std::optional<std::uint32_t> crc32c;
};

struct Snapshot {
  enum class Form : std::uint8_t {
    Image,   // an SQLite file
    State,   // v6, v7: state.bin, a compressed image behind a header
  };
  std::string id;
  Index index;
  Term term;
  std::vector<Server> servers;
  Form form = Form::Image;
  SnapshotFile base;
  std::optional<std::uint64_t> base_crc64;
  std::vector<SnapshotFile> wals;   // to be applied in this order
  bool wals_exact = true;           // written for the snapshot: every byte counts. Else moved from the live database
};

// nullopt: there is none. Errc::Corrupt, Io.
Result<std::optional<Snapshot>> newest_snapshot(io::Disk& disk, const std::string& data_dir);

// The members that an operator named in raft/peers.json. nullopt: no such file. Errc::Corrupt, TooLarge, Io.
Result<std::optional<std::vector<Server>>> peers_file(io::Disk& disk, const std::string& data_dir);

}  // namespace rq::import
