// Profiles: what GET /debug/pprof/... answers (docs/metrics.md). The names are those of Go's package where there is something
// of the kind here: profile (processor time as collapsed stacks), heap (malloc's statistics), goroutine and threadcreate
// (stacks of all threads), cmdline. The rest is 501 with a reason, unknown names 404.
//
// Threads: handle() from any thread, doesn't block; `profile` answers after its seconds from a thread of its own. stop() ends
// a profile that runs: it answers with what it has. May be called twice.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace rq::ops {

std::string heap_text();

class Profiles {
 public:
  using Reply = std::function<void(int status, std::string body)>;   // text/plain
  explicit Profiles(std::vector<std::string> command_line) : command_line_(std::move(command_line)) {}
  ~Profiles() { stop(); }
  void handle(std::string_view path, std::string_view query, Reply reply);
  void stop();

 private:
  void profile(std::string_view query, Reply reply);

  const std::vector<std::string> command_line_;
  std::mutex mutex_;                    // guards all below
  std::condition_variable wake_;
  std::thread thread_;
  bool running_ = false, stopping_ = false;
};

}  // namespace rq::ops
