// WriteQueue: the queued writes of this node (spec http-api section 13). Statements wait in memory, are sent as one EXECUTE
// request when enough are there or the first has waited long enough, in the order of acceptance; a batch that could not be
// executed is tried again every second, later ones wait behind it.
//
// Only requests with the same credentials share a batch, so that the leader can check them again.
// Threads: add() and checkpoint() from any thread; the owner's thread `queue` sends. `done` is called once, from any
// thread. stop() sends what is there and waits for it, within its time.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "http/backend.h"

namespace rq::http {

struct QueueOptions {
  std::size_t capacity = 1024;
  std::size_t batch_size = 128;                             // requests
  std::chrono::nanoseconds timeout = std::chrono::milliseconds(50);
  bool transaction = false;
  std::size_t bytes_max = 256u << 20;                       // of statements waiting
};

class WriteQueue {
 public:
  using Done = std::function<void(std::int64_t sequence)>;  // the request's batch was applied

  WriteQueue(const QueueOptions& options, Backend& backend, Clock& clock, Metrics& metrics);
  ~WriteQueue();

  // The sequence number, or Errc::Busy when the queue is full (then `statements` stay with the caller). No statements: a
  // checkpoint, done when all before are applied.
  Result<std::int64_t> add(google::protobuf::RepeatedPtrField<pb::Statement>& statements, const Credentials& credentials, const Done& done);
  void stop(std::chrono::milliseconds within);              // what waits is written if that takes no longer
  std::int64_t written_sequence() const;                    // of the last request whose batch was applied
  const QueueOptions& options() const { return options_; }
  std::size_t waiting() const;                              // requests

 private:
  class BatchCall;
  struct Item {
    google::protobuf::RepeatedPtrField<pb::Statement> statements;
    Credentials credentials;
    std::int64_t sequence = 0;
    std::size_t bytes = 0;
    SteadyTime since;
    Done done;
  };
  void run();
  std::vector<Item> take_batch(std::unique_lock<std::mutex>& lock);
  bool send(std::vector<Item>& batch);
  bool stop_time_is_over() const;
  void note_failure(const SqlReply& reply);

  const QueueOptions options_;
  Backend& backend_;
  Clock& clock_;
  Metrics& metrics_;
  mutable std::mutex mutex_;                                // guards all below
  std::condition_variable changed_;
  std::deque<Item> items_;
  std::size_t bytes_ = 0;
  std::int64_t sequence_;
  std::int64_t written_ = 0;
  bool stopping_ = false;
  bool idle_ = true;
  SteadyTime stop_by_;
  std::thread thread_;
};

}  // namespace rq::http
