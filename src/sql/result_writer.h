// JSON of results, written straight from SQLite's rows (spec http-api sections 6 to 8). One "element" is one member of
// the "results" list; every function appends exactly one, with a comma before it where the text doesn't begin with it.
//
// No clock of its own: with timings the caller hands in a Stopwatch.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "command/outcome.h"
#include "sql/connection.h"

namespace rq::sql {

// Measures one statement for "time"; without a clock (no timings asked) it measures nothing.
class Stopwatch {
 public:
  Stopwatch() = default;
  explicit Stopwatch(const Clock& clock) : clock_(&clock), start_(clock.now()) {}
  static Stopwatch started(const Clock& clock, std::uint32_t render) {
    return (render & command::kTimings) != 0 ? Stopwatch(clock) : Stopwatch();
  }
  bool running() const { return clock_ != nullptr; }
  double seconds() const { return std::chrono::duration<double>(clock_->now() - start_).count(); }

 private:
  const Clock* clock_ = nullptr;
  SteadyTime start_;
};

class ResultWriter {
 public:
  // Appends to `results`, which must outlive the writer; `render` are bits of command::Render.
  ResultWriter(std::string& results, std::uint32_t render) : out_(results), render_(render) {}

  // An execute result: {"last_insert_id":..,"rows_affected":..}.
  void changes(std::int64_t last_insert_id, std::int64_t rows_affected, const Stopwatch& watch);

  // Steps `statement` to its end and appends its query result. On error nothing is appended: the Error is SQLite's, or
  // Errc::BadRequest when a date can't be written. The bytes of a result are bounded by kResultMax (Errc::TooLarge).
  Result<> rows(Statement& statement, const Stopwatch& watch);

  // A statement that has no columns and gave nothing, shown as a query result: {} or {"rows":[]}.
  void nothing(const Stopwatch& watch);

  // A failed statement. ReadFailed: in associative form "rows":[] stands before the error.
  enum class Failed : std::uint8_t { Read, Other };
  void error(std::string_view text, Failed failed);

  std::uint32_t render() const { return render_; }

 private:
  std::string& out_;
  const std::uint32_t render_;
};

inline constexpr std::size_t kResultMax = std::size_t{1} << 30;  // of all results of one request

}  // namespace rq::sql
