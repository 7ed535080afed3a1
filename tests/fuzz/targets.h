// Fuzz targets: each takes any bytes and gives them to one reader of untrusted input. What a reader accepts must survive its
// own writer where there is one. `./dev fuzz TARGET [SECONDS]` runs one under libFuzzer; replay.cc feeds them the corpora
// in the unit tests.
#pragma once

#include <string_view>

namespace rq::fuzz {

struct Target {
  std::string_view name;
  void (*run)(std::string_view input);
};

void http_target(std::string_view input);    // request targets: path and parameters
void http_body(std::string_view input);      // JSON bodies
void sql_text(std::string_view input);       // what is read out of SQL before SQLite sees it; dates
void peer_frames(std::string_view input);    // a peer's byte stream, cut anywhere
void peer_messages(std::string_view input);  // what stands in frames, log entries, snapshot descriptors
void log_segment(std::string_view input);    // the Raft log's files
void ledger_files(std::string_view input);   // ledger, SQLite's WAL and database at start
void image(std::string_view input);          // images of databases: trunks, pages, hashes
void credentials(std::string_view input);    // -auth files
void flags(std::string_view input);          // command lines

inline constexpr Target kTargets[] = {
    {"http_target", http_target},     {"http_body", http_body},     {"sql_text", sql_text},         {"peer_frames", peer_frames},
    {"peer_messages", peer_messages}, {"log_segment", log_segment}, {"ledger_files", ledger_files}, {"image", image},
    {"credentials", credentials},     {"flags", flags},
};

}  // namespace rq::fuzz
