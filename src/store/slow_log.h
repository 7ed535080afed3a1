// SlowLog: tells of requests that took long, with the plan of their statements (-slow-query-log DURATION). Values are not
// told: literals in statements become `?`, parameters are left out.
//
// Line (component `slow`): `request was slow, took=1.2s kind=query level=weak where=pool statements=1 sql="..." plan="..."`.
// At most kLinesMax lines in kWindow; how many were left out is told with the next one.
// Threads: took() from any; cheap when the request was fast. Plans are asked for on the thread that `explain_later` runs on.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "command/command.pb.h"

namespace rq::store {

// The statements of a text with `?` for every literal, without comments, white space made single.
std::string without_values(std::string_view sql);

class SlowLog {
 public:
  static constexpr int kLinesMax = 10;
  static constexpr auto kWindow = std::chrono::seconds(10);

  // `explain` gives the plan of the first statement of a text, empty when there is none. `explain_later` runs its argument
  // soon, on a thread where explain() may block; false: not now, the line is written without plans.
  using Explain = std::function<std::string(const std::string& sql)>;
  using Later = std::function<bool(std::function<void()>)>;
  SlowLog(std::chrono::nanoseconds threshold, const Clock& clock, Explain explain, Later explain_later);

  bool on() const { return threshold_.count() > 0; }
  void took(const pb::Request& request, std::chrono::nanoseconds time, std::string_view where) {
    if (on() && time >= threshold_) tell(request, time, where);
  }
  std::int64_t count() const { return count_.load(std::memory_order_relaxed); }

 private:
  void tell(const pb::Request& request, std::chrono::nanoseconds time, std::string_view where);
  bool may_tell(std::uint64_t& left_out);

  const std::chrono::nanoseconds threshold_;       // 0: off
  const Clock& clock_;
  const Explain explain_;
  const Later explain_later_;
  std::atomic<std::int64_t> count_{0};
  std::mutex mutex_;                               // guards all below
  SteadyTime window_began_;
  int lines_ = 0;
  std::uint64_t left_out_ = 0;
};

}  // namespace rq::store
