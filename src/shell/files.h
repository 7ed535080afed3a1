// Files of the shell: read for upload, written whole or not at all, and how far a transfer is. Used by one thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "shell/http_client.h"

namespace rq::shell {

// "open FILE: no such file or directory", as Go words it.
std::string open_problem(const std::string& path, int error_number);
Result<std::string> read_file(const std::string& path);

// Shows bytes, share and rate of a transfer on stderr when that is a terminal, at most ten times a second, from the first
// half second on. The line is taken away at the end.
class Progress {
 public:
  Progress(std::string what, bool shown);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(std::uint64_t done, std::uint64_t total);     // total 0: unknown

  // "backup: 12 MB of 40 MB, 31%, 5.5 MB/s, 5s left"
  static std::string line(std::string_view what, std::uint64_t done, std::uint64_t total, std::chrono::duration<double> since);

 private:
  const std::string what_;
  const bool shown_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_ = begin_;
  bool drawn_ = false;
};

// A file as the body of a request, with a few bytes put behind it.
class FileSource final : public BodySource {
 public:
  static Result<std::unique_ptr<FileSource>> open(const std::string& path);
  ~FileSource() override;
  void append(std::string suffix) { suffix_ = std::move(suffix); }
  void watch(Progress& progress) { progress_ = &progress; }

  bool begins_with(std::string_view bytes) const;
  std::uint64_t size() const override { return file_size_ + suffix_.size(); }
  Result<> rewind() override;
  Result<std::size_t> read(char* into, std::size_t size) override;

 private:
  FileSource(int fd, std::uint64_t size) : fd_(fd), file_size_(size) {}
  const int fd_;
  const std::uint64_t file_size_;
  std::uint64_t at_ = 0;
  std::string suffix_;
  Progress* progress_ = nullptr;
};

// A file that appears under its name when it is complete: written beside it, synced and renamed. What is no regular file
// (a device, a pipe) is written directly.
class WholeFile {
 public:
  static Result<std::unique_ptr<WholeFile>> create(const std::string& path);
  ~WholeFile();                            // not finished: the target is as it was
  Result<> write(std::string_view bytes);
  Result<> finish();

 private:
  WholeFile(int fd, std::string path, std::string temporary) : fd_(fd), path_(std::move(path)), temporary_(std::move(temporary)) {}
  int fd_;
  const std::string path_;
  std::string temporary_;                  // empty: written directly
};

}  // namespace rq::shell
