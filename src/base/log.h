// Log lines: "[component] YYYY/MM/DD HH:MM:SS text" on stderr, local time (spec observability section 5).
// Thread-safe. Texts are lower case, past tense, with ids as key=value. Never log credentials.
#pragma once

#include <string_view>

namespace rq::log {

enum class Level { Debug, Info, Warn, Error, Off };

void set_level(Level lowest);  // default Info
Level level();

void write(Level level, std::string_view component, std::string_view text);

inline void debug(std::string_view component, std::string_view text) {
  if (level() <= Level::Debug) write(Level::Debug, component, text);
}
inline void info(std::string_view component, std::string_view text) { write(Level::Info, component, text); }
inline void warn(std::string_view component, std::string_view text) { write(Level::Warn, component, text); }
inline void error(std::string_view component, std::string_view text) { write(Level::Error, component, text); }

}  // namespace rq::log
