// ImageFetch: brings one image from another member into the staging folder: in pieces of 1 MiB, several on their way at
// once, each with its checksum; written in order, synced as it goes. O(1) memory.
//
// The image comes to be at `path` when it is complete and durable; until then it is `path`.part, with a note beside it that
// says which image it is and how much of it is durable. Fetching the same image again, also after the process died, goes
// on from there. A source that is away is tried again until nothing came for `patience`.
// Threads: one thread for each fetch, its own; done() is called on it, once. stop() (and the destructor) ends it soon, with
// Errc::Canceled.
// Errors: Errc::NotFound (the source doesn't hold it any more), Corrupt (the whole isn't what was promised), Unauthorized, Timeout, Io,
// NoSpace, Canceled.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/result.h"
#include "base/types.h"
#include "io/disk.h"
#include "transport/transport.h"

namespace rq::cluster {

struct ImageSource {
  std::string addr;              // of the member's Raft port
  std::uint64_t image_id = 0;    // a held state; 0: the staged file `staged`
  std::string staged;
  std::uint64_t bytes = 0;
  std::string identity;          // equal only for equal images: what a part of it may be continued by
  std::string digest;            // of the whole, 16 bytes; empty: not checked
};

struct ImageFetchOptions {
  std::uint64_t cluster_id = 0;
  RaftId self;
  bool zstd = false;
  std::uint64_t bytes_per_second_max = 0;        // 0: no limit
  std::chrono::seconds patience{20};
};

class ImageFetch {
 public:
  ImageFetch(transport::Transport& transport, io::Disk& disk, const Clock& clock, ImageFetchOptions options, ImageSource source,
             std::string path, std::function<void(Result<>)> done);
  ~ImageFetch() { stop(); }
  void stop();
  const ImageSource& source() const { return source_; }
  std::uint64_t received() const { return received_.load(std::memory_order_relaxed); }   // bytes, for /status
  bool over() const { return over_.load(std::memory_order_acquire); }

 private:
  // What the calls bring, shared with them: they may outlive the fetch.
  struct Arrivals {
    std::mutex mutex;
    std::condition_variable changed;
    std::map<std::uint64_t, Result<std::string>> pieces;
    bool stopped = false;
  };
  void run();
  Result<> fetch();
  Result<std::uint64_t> resume();
  Result<> note(std::uint64_t durable);
  void ask(std::uint64_t offset);
  std::optional<Result<std::string>> wait_for(std::uint64_t offset);
  Result<std::string> unpack(std::uint64_t offset, const std::string& payload) const;
  Result<> check_whole();
  bool pause(std::chrono::nanoseconds time);     // false: stopped
  std::string note_path() const { return path_ + ".part-note"; }

  transport::Transport& transport_;
  io::Disk& disk_;
  const Clock& clock_;
  const ImageFetchOptions options_;
  const ImageSource source_;
  const std::string path_;
  const std::function<void(Result<>)> done_;
  const std::shared_ptr<Arrivals> arrivals_ = std::make_shared<Arrivals>();
  std::unique_ptr<io::File> file_;               // of the part; own thread
  std::atomic<std::uint64_t> received_{0};
  std::atomic<bool> over_{false};
  std::thread thread_;
};

}  // namespace rq::cluster
