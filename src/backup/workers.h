// Workers: a few threads for what may block on the disk or compute for long, so that net threads don't.
//
// Tasks are short (a piece) or as long as one operation of a client (a check, a VACUUM). Threads are made when they are
// needed. stop() runs what waits and ends the threads; may be called twice; post() is false from then on.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "backup/source.h"
#include "base/byte_source.h"

namespace rq::backup {

class Workers {
 public:
  explicit Workers(unsigned threads_max) : threads_max_(threads_max) {}
  ~Workers() { stop(); }
  bool post(std::function<void()> task);     // any thread; false: stopped, the task is dropped
  void stop();

 private:
  void run();

  const unsigned threads_max_;
  std::mutex mutex_;                         // guards all below
  std::condition_variable ready_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  std::size_t sleeping_ = 0;
  bool stopping_ = false;
};

// A Source whose work is done by workers, which must outlive it. Its destruction cancels the source, and a worker destroys it.
std::shared_ptr<ByteSource> stream(std::unique_ptr<Source> source, Workers& workers);

}  // namespace rq::backup
