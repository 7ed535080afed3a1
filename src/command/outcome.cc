#include "command/outcome.h"

#include "base/go_text.h"

namespace rq::command {

std::string render_body(const Outcome& outcome, std::uint32_t render, std::optional<std::int64_t> sequence_number) {
  std::string out;
  out.reserve(outcome.results.size() + outcome.error.size() + 64);
  out += "{\"results\":[";
  if (outcome.error.empty()) out += outcome.results;
  out += ']';
  if (!outcome.error.empty()) {
    out += ",\"error\":";
    append_json_string(out, outcome.error);
  }
  if ((render & kTimings) != 0 && outcome.elapsed.count() > 0) {
    out += ",\"time\":";
    append_json_double(out, std::chrono::duration<double>(outcome.elapsed).count());
  }
  if (sequence_number) out += ",\"sequence_number\":" + std::to_string(*sequence_number);
  if ((render & kRaftIndex) != 0 && outcome.raft_index != 0) out += ",\"raft_index\":" + std::to_string(outcome.raft_index);
  out += '}';
  return (render & kPretty) != 0 ? pretty_json(out) : out;
}

}  // namespace rq::command
