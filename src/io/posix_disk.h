// The real file system. See disk.h for the contract.
#pragma once

#include "io/disk.h"

namespace rq::io {

class PosixDisk final : public Disk {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override;
  Result<> remove(const std::string& path) override;
  Result<> remove_dir(const std::string& path) override;
  Result<> rename(const std::string& from, const std::string& to) override;
  Result<> link(const std::string& from, const std::string& to) override;
  Result<std::vector<std::string>> list(const std::string& dir) override;
  Result<bool> exists(const std::string& path) override;
  Result<> make_dirs(const std::string& dir) override;
  Result<> sync_dir(const std::string& dir) override;
  Result<std::uint64_t> free_bytes(const std::string& dir) override;
};

// An exclusive lock on a directory (flock on DIR/lock), held until destruction, released by the kernel on death.
class DirectoryLock {
 public:
  static Result<DirectoryLock> take(const std::string& dir);  // Errc::AlreadyExists: another process holds it
  // A shared one on a file that others lock; nothing is written. Errc::AlreadyExists: another process holds it exclusively.
  static Result<DirectoryLock> share(const std::string& file);
  ~DirectoryLock();
  DirectoryLock(DirectoryLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  DirectoryLock& operator=(DirectoryLock&&) = delete;

 private:
  explicit DirectoryLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace rq::io
