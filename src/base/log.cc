#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/assert.h"

namespace rq::log {
namespace {

std::atomic<Level> lowest_level{Level::Info};

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

void set_level(Level lowest) { lowest_level.store(lowest, std::memory_order_relaxed); }
Level level() { return lowest_level.load(std::memory_order_relaxed); }

void write(Level at, std::string_view component, std::string_view text) {
  if (at < level()) return;
  std::string line;
  line.reserve(component.size() + text.size() + 24);
  line.append("[").append(component).append("] ").append(time_text()).append(" ").append(text);
  logger().log(spdlog::level::info, "{}", line);
}

}  // namespace rq::log

void rq::assertion_failed(const char* expression, const char* file, int line) noexcept {
  log::write(log::Level::Error, "assert",
             std::string("broken invariant: ") + expression + " at " + file + ":" + std::to_string(line));
  std::abort();
}
