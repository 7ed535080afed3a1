// Disk and File: the seam to the file system for everything durable that is ours (Raft log, ledger, node files).
//
// Two implementations: PosixDisk (io/posix_disk.h) and MemoryDisk (tests/support/memory_disk.h), which can fail on
// purpose and forget unsynced writes. Both pass tests/contract/disk_contract.
//
// Durability contract: bytes written are durable only after sync() of that file returned success; a file's name
// (creation, rename, removal) only after sync_dir() of its directory. After a failed sync() nothing is known of the
// unsynced bytes: callers never retry it (they stop). Paths are absolute. Offsets and sizes in bytes.
// Threads: a Disk may be called from any thread; one File by one thread at a time, but read_at() from any.
// Errors: Errc::Io (detail: call, path, reason), Errc::NoSpace (ENOSPC, EDQUOT, EFBIG), Errc::NotFound.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace rq::io {

class File {
 public:
  virtual ~File() = default;  // closes; never syncs
  // Reads up to `size` bytes; fewer only at the end of the file.
  virtual Result<std::string> read_at(std::uint64_t offset, std::size_t size) const = 0;
  virtual Result<std::size_t> read_into(std::uint64_t offset, std::span<char> out) const = 0;
  // Writes all bytes (short writes are continued) or fails; a failed write may have written a part.
  virtual Result<> write_at(std::uint64_t offset, std::string_view bytes) = 0;
  // The pieces one after the other, in one system call where possible.
  virtual Result<> write_pieces_at(std::uint64_t offset, std::span<const std::string_view> pieces) = 0;
  virtual Result<> truncate(std::uint64_t size) = 0;
  // Writes zeros from the present size up to `size`, so that later writes there need no allocation.
  virtual Result<> extend_with_zeros(std::uint64_t size) = 0;
  virtual Result<> sync() = 0;  // fdatasync
  virtual Result<std::uint64_t> size() const = 0;
};

enum class OpenMode { ReadOnly, ReadWrite, CreateOrOpen, CreateNew };

class Disk {
 public:
  virtual ~Disk() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  virtual Result<> remove(const std::string& path) = 0;  // of a file; a missing one is Errc::NotFound
  virtual Result<> remove_dir(const std::string& path) = 0;  // of an empty folder; a missing one is Errc::NotFound
  virtual Result<> rename(const std::string& from, const std::string& to) = 0;  // replaces `to`; of a folder: an empty one
  // A second name for a file; its content lives until both are gone. Errc::Unsupported: not on this file system.
  virtual Result<> link(const std::string& from, const std::string& to);
  virtual Result<std::vector<std::string>> list(const std::string& dir) = 0;    // names, sorted; no "." and ".."
  virtual Result<bool> exists(const std::string& path) = 0;
  virtual Result<> make_dirs(const std::string& dir) = 0;  // with parents, mode 0755
  virtual Result<> sync_dir(const std::string& dir) = 0;
  virtual Result<std::uint64_t> free_bytes(const std::string& dir) = 0;
};

// Writes `bytes` to `path` so that a crash leaves the old file or the new one, never a part: a temporary file beside
// it, sync, rename, sync of the directory.
Result<> write_file_atomically(Disk& disk, const std::string& path, std::string_view bytes);
Result<std::string> read_file(Disk& disk, const std::string& path, std::size_t size_max);

}  // namespace rq::io
