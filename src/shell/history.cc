#include "shell/history.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "shell/files.h"

namespace rq::shell {
namespace {

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end != 0) lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

}  // namespace

History::History(std::string path, std::size_t size) : path_(std::move(path)), size_(size) {
  if (path_.empty() || size_ == 0) return;
  const auto content = read_file(path_);
  if (!content) return;
  lines_ = split_lines(*content);
  if (lines_.size() <= size_) return;
  lines_.erase(lines_.begin(), lines_.end() - static_cast<std::ptrdiff_t>(size_));
  rewrite();
}

History::~History() {
  if (!path_.empty() && size_ == 0) ::unlink(path_.c_str());
}

std::vector<std::string> History::add(std::string_view text) {
  std::string flat(text);
  if (flat.find("--") == std::string::npos && flat.find('\'') == std::string::npos) std::replace(flat.begin(), flat.end(), '\n', ' ');
  std::vector<std::string> noted;
  for (const std::string& line : split_lines(flat)) {
    if (!lines_.empty() && lines_.back() == line) continue;
    lines_.push_back(line);
    noted.push_back(line);
    if (size_ > 0) append(line);
  }
  return noted;
}

void History::append(const std::string& line) const {
  if (path_.empty()) return;
  const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return;                       // a home that cannot be written costs the history, nothing else
  const std::string bytes = line + "\n";
  [[maybe_unused]] const ssize_t written = ::write(fd, bytes.data(), bytes.size());
  ::close(fd);
}

void History::rewrite() const {
  auto file = WholeFile::create(path_);
  if (!file) return;
  std::string content;
  for (const std::string& line : lines_) content += line + "\n";
  if ((*file)->write(content) && (*file)->finish()) ::chmod(path_.c_str(), 0600);
}

}  // namespace rq::shell
