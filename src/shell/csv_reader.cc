#include "shell/csv_reader.h"

namespace rq::shell {
namespace {
// SQLite takes no longer text from us anyway (spec http-api section 10), and an unclosed quote must not eat all memory.
constexpr std::size_t kFieldBytesMax = 256 * 1024 * 1024;
}  // namespace

int CsvReader::get() {
  const int c = std::getc(file_);
  if (c != EOF) ++bytes_;
  if (c == '\n') ++line_;
  return c;
}

Result<std::vector<std::string>> CsvReader::next() {
  std::vector<std::string> row;
  std::string field;
  int c = get();
  if (bytes_ == 1 && c == 0xEF) {            // the byte order mark that some programs write first
    get();
    get();
    c = get();
  }
  while (c == '\n' || c == '\r') c = get();
  row_line_ = line_;
  if (c == EOF) return row;
  while (true) {
    if (c == '"' && field.empty()) {
      while (true) {
        c = get();
        if (c == EOF) return fail(Errc::BadRequest, "line " + std::to_string(row_line_) + ": a quote is not closed");
        if (c == '"' && (c = get()) != '"') break;
        field += static_cast<char>(c);
        if (field.size() > kFieldBytesMax) return fail(Errc::TooLarge, "line " + std::to_string(row_line_) + ": a field is too long");
      }
    }
    while (c != EOF && c != '\n' && c != separator_) {
      field += static_cast<char>(c);
      if (field.size() > kFieldBytesMax) return fail(Errc::TooLarge, "line " + std::to_string(row_line_) + ": a field is too long");
      c = get();
    }
    const bool more = c == separator_;
    if (!more && field.ends_with('\r')) field.pop_back();
    row.push_back(std::move(field));
    field.clear();
    if (!more) return row;
    c = get();
  }
}

}  // namespace rq::shell
