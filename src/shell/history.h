// History: the lines of earlier sessions, one a line in a file that only its owner may read. Each line is appended when it
// is entered, so a killed shell loses nothing. Used by one thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace rq::shell {

class History {
 public:
  // No path: kept in memory only. A size of 0 keeps none and removes the file at the end.
  History(std::string path, std::size_t size);
  ~History();
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  // Notes a line unless it is empty or equals the one before. Line feeds become blanks where that doesn't change the
  // meaning; else the lines are noted one by one. Returns what was noted.
  std::vector<std::string> add(std::string_view text);
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  void append(const std::string& line) const;
  void rewrite() const;
  const std::string path_;
  const std::size_t size_;
  std::vector<std::string> lines_;
};

}  // namespace rq::shell
