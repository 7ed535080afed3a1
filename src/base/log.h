// Log lines on stderr: "[component] YYYY/MM/DD HH:MM:SS text" (spec observability section 5), or JSON objects, one a line:
// {"time":"2026-01-31T12:00:00.123Z","level":"info","component":"store","msg":"..."}.
// Lines of the component `raft` carry their level after the time ("[WARN]  ") and have a minimum level of their own.
// Thread-safe; the three settings are made at start. Texts are lower case, past tense, with ids as key=value. Never log
// credentials.
#pragma once

#include <optional>
#include <string_view>

namespace rq::log {

enum class Level { Debug, Info, Warn, Error, Off };
enum class Format { Text, Json };

// "debug", "info", "warn", "error", "off", "trace" (as debug), in any case.
std::optional<Level> parse_level(std::string_view word);

void set_level(Level lowest);       // default Info
void set_raft_level(Level lowest);  // of the component raft, on top of the other; default Warn
void set_format(Format format);     // default Text
Level level();

void write(Level level, std::string_view component, std::string_view text);

inline void debug(std::string_view component, std::string_view text) {
  if (level() <= Level::Debug) write(Level::Debug, component, text);
}
inline void info(std::string_view component, std::string_view text) { write(Level::Info, component, text); }
inline void warn(std::string_view component, std::string_view text) { write(Level::Warn, component, text); }
inline void error(std::string_view component, std::string_view text) { write(Level::Error, component, text); }

}  // namespace rq::log
