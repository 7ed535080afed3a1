// CpuSampler: where the process spends processor time. Each thread has a timer of its own processor time; when it fires, the
// thread notes its stack in a ring, from which a thread of the sampler collects. The result is text in "collapsed stacks":
// one line for each stack, outermost function first, `thread;main;f;g COUNT` (flamegraph.pl, speedscope, inferno read it).
//
// Cost while it runs: about 1% at 100 samples a second; none otherwise. One at a time in a process.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <ctime>

#include "base/result.h"
#include "ops/stacks.h"

namespace rq::ops {

class CpuSampler {
 public:
  // Errc::Busy: another one runs.
  static Result<std::unique_ptr<CpuSampler>> start(unsigned samples_per_second = 100);
  ~CpuSampler();
  std::string stop();                   // the collapsed stacks; once

 private:
  explicit CpuSampler(unsigned samples_per_second);
  void run();
  void end_thread();
  void watch_new_threads();
  void collect();

  const unsigned rate_;
  std::mutex mutex_;                    // guards stopping_
  std::condition_variable wake_;
  bool stopping_ = false;
  struct Watched {
    timer_t timer;
    std::string name;
  };
  std::map<int, Watched> threads_;      // by thread id; collector thread
  // Names of threads that ended stay: their samples are still told.
  std::map<int, std::string> names_;
  std::map<std::vector<std::uintptr_t>, std::uint64_t> stacks_;   // thread id, then addresses, innermost first
  std::uint64_t lost_ = 0;
  std::thread thread_;
};

}  // namespace rq::ops
