// ImageServer: gives pieces of database images to other members: of states that the machine holds fast (snapshots) and of
// files that were staged for a load.
//
// Only who names the cluster's id and is a member is served. Pieces are read on an own thread, `images`; what waits is
// bounded (Errc::Busy). A state that was held by hold() is let go when nobody read from it for a minute; those of Raft's
// snapshots are the driver's business, which hears of every piece (Replica::snapshot_used()).
// Threads: functions from any. stop(): what waits is answered with Errc::Closed; may be called twice.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/result.h"
#include "store/store.h"
#include "transport/transport.h"

namespace rq::cluster {

inline constexpr std::size_t kImagePieceBytes = 1u << 20;   // a multiple of each page size
inline constexpr std::size_t kImagePacketMax = kImagePieceBytes + 4096;
std::uint64_t piece_checksum(std::string_view bytes, std::uint64_t offset);

class ImageServer {
 public:
  // Says whether a reader is a member of this cluster.
  using IsMember = std::function<bool(std::uint64_t cluster_id, RaftId reader)>;
  ImageServer(store::Store& store, const Clock& clock, IsMember is_member);
  ~ImageServer() { stop(); }
  void stop();

  void read(std::string payload, std::shared_ptr<transport::Responder> responder);
  void hold(const std::string& payload, std::shared_ptr<transport::Responder> responder);
  std::uint64_t bytes_sent() const { return bytes_sent_.load(std::memory_order_relaxed); }

 private:
  struct Request {
    std::string payload;
    std::shared_ptr<transport::Responder> responder;
  };
  void run();
  Result<std::string> piece(const std::string& payload);
  Result<std::string> staged_piece(const std::string& name, std::uint64_t offset, std::size_t size);
  void let_go(SteadyTime now);

  store::Store& store_;
  const Clock& clock_;
  const IsMember is_member_;
  std::atomic<std::uint64_t> bytes_sent_{0};
  std::string open_name_;                       // the staged file that was read last; on the own thread
  std::unique_ptr<io::File> open_file_;

  std::mutex mutex_;                            // guards the rest
  std::condition_variable changed_;
  std::deque<Request> requests_;
  std::map<std::uint64_t, SteadyTime> held_;    // by hold(): id -> read last
  bool stop_ = false;
  std::thread thread_;
};

// A name that can only mean a file in the staging folder.
bool is_staged_name(std::string_view name);

}  // namespace rq::cluster
