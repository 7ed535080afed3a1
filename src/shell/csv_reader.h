// CsvReader: RFC 4180 rows out of a file of any size, row by row: quoted fields, doubled quotes, line feeds within quotes,
// LF or CR LF. A byte order mark is skipped. Used by one thread.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "base/result.h"

namespace rq::shell {

class CsvReader {
 public:
  // Reads from `file`, which stays the caller's.
  CsvReader(std::FILE* file, char separator) : file_(file), separator_(separator) {}

  // The next row; no fields at all: the end. Empty lines are skipped.
  Result<std::vector<std::string>> next();
  std::uint64_t line() const { return row_line_; }      // where the last row began, from 1
  std::uint64_t bytes() const { return bytes_; }        // consumed

 private:
  int get();
  std::FILE* file_;
  const char separator_;
  std::uint64_t line_ = 1, row_line_ = 1, bytes_ = 0;
};

}  // namespace rq::shell
