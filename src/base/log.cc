#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/assert.h"
#include "base/clock.h"
#include "base/go_text.h"

namespace rq::log {
namespace {

std::atomic<Level> lowest_level{Level::Info}, lowest_raft_level{Level::Warn};
std::atomic<Format> line_format{Format::Text};

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("rq", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_level(spdlog::level::trace);
    made->set_pattern("%v");
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *instance;
}

std::string time_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char text[32];
  const std::size_t length = std::strftime(text, sizeof text, "%Y/%m/%d %H:%M:%S", &parts);
  return {text, length};
}

}  // namespace

std::optional<Level> parse_level(std::string_view word) {
  std::string lower;
  for (const char c : word) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  if (lower == "trace" || lower == "debug") return Level::Debug;
  if (lower == "info") return Level::Info;
  if (lower == "warn" || lower == "warning") return Level::Warn;
  if (lower == "error" || lower == "err") return Level::Error;
  if (lower == "off") return Level::Off;
  return std::nullopt;
}

void set_level(Level lowest) { lowest_level.store(lowest, std::memory_order_relaxed); }
void set_raft_level(Level lowest) { lowest_raft_level.store(lowest, std::memory_order_relaxed); }
void set_format(Format format) { line_format.store(format, std::memory_order_relaxed); }
Level level() { return lowest_level.load(std::memory_order_relaxed); }

namespace {

std::string text_line(Level at, std::string_view component, std::string_view text) {
  static constexpr std::string_view kMarks[] = {"[DEBUG] ", "[INFO]  ", "[WARN]  ", "[ERROR] "};
  std::string line;
  line.reserve(component.size() + text.size() + 32);
  line.append("[").append(component).append("] ").append(time_text()).append(" ");
  if (component == "raft" && at < Level::Off) line.append(kMarks[static_cast<int>(at)]);
  return line.append(text);
}

std::string json_line(Level at, std::string_view component, std::string_view text) {
  static constexpr std::string_view kNames[] = {"debug", "info", "warn", "error", "off"};
  std::string line = "{\"time\":\"";
  line.append(rfc3339_text(std::chrono::time_point_cast<std::chrono::milliseconds>(SystemClock().wall())));
  line.append("\",\"level\":\"").append(kNames[static_cast<int>(at)]).append("\",\"component\":");
  append_json_string(line, component);
  line.append(",\"msg\":");
  append_json_string(line, text);
  return line + "}";
}

}  // namespace

void write(Level at, std::string_view component, std::string_view text) {
  if (at < level() || (component == "raft" && at < lowest_raft_level.load(std::memory_order_relaxed))) return;
  const bool json = line_format.load(std::memory_order_relaxed) == Format::Json;
  logger().log(spdlog::level::info, "{}", json ? json_line(at, component, text) : text_line(at, component, text));
}

}  // namespace rq::log

void rq::assertion_failed(const char* expression, const char* file, int line) noexcept {
  log::write(log::Level::Error, "assert",
             std::string("broken invariant: ") + expression + " at " + file + ":" + std::to_string(line));
  std::abort();
}
