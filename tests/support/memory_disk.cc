#include "support/memory_disk.h"

#include <algorithm>

namespace rq::test {
namespace {

constexpr std::uint64_t kSector = 512;

struct Operation {
  std::uint64_t number = 0;     // order over all files
  bool truncates = false;
  std::uint64_t offset = 0;     // or the new size
  std::string bytes;
};

void perform(std::string& content, const Operation& operation) {
  if (operation.truncates) {
    content.resize(operation.offset, '\0');
    return;
  }
  if (content.size() < operation.offset + operation.bytes.size()) content.resize(operation.offset + operation.bytes.size(), '\0');
  content.replace(operation.offset, operation.bytes.size(), operation.bytes);
}

std::string parent(const std::string& path) { return path.substr(0, path.rfind('/')); }

// Everything below a folder gets its new name.
template <class Names>
void move_folder(Names& names, const std::string& from, const std::string& to) {
  Names moved;
  for (auto at = names.lower_bound(from + "/"); at != names.end() && at->first.starts_with(from + "/"); at = names.erase(at))
    moved[to + at->first.substr(from.size())] = at->second;
  names.merge(moved);
}

}  // namespace

struct MemoryDisk::Inode {
  std::string content, durable;
  std::vector<Operation> unsynced;
};

class MemoryFile final : public io::File {
 public:
  MemoryFile(MemoryDisk& disk, std::shared_ptr<MemoryDisk::Inode> inode, std::string path, std::uint64_t epoch)
      : disk_(disk), inode_(std::move(inode)), path_(std::move(path)), epoch_(epoch) {}

  Result<std::string> read_at(std::uint64_t offset, std::size_t size) const override {
    const std::lock_guard lock(disk_.mutex_);
    RQ_CHECK(alive());
    if (offset >= inode_->content.size()) return std::string();
    return inode_->content.substr(offset, size);
  }
  Result<std::size_t> read_into(std::uint64_t offset, std::span<char> out) const override {
    RQ_TRY(const std::string bytes, read_at(offset, out.size()));
    std::ranges::copy(bytes, out.begin());
    return bytes.size();
  }
  Result<> write_at(std::uint64_t offset, std::string_view bytes) override {
    const std::lock_guard lock(disk_.mutex_);
    RQ_CHECK(alive());
    RQ_CHECK(disk_.tick("write", path_));
    return put({.offset = offset, .bytes = std::string(bytes)});
  }
  Result<> write_pieces_at(std::uint64_t offset, std::span<const std::string_view> pieces) override {
    std::string all;
    for (const std::string_view piece : pieces) all += piece;
    return write_at(offset, all);
  }
  Result<> truncate(std::uint64_t size) override {
    const std::lock_guard lock(disk_.mutex_);
    RQ_CHECK(alive());
    RQ_CHECK(disk_.tick("truncate", path_));
    return put({.truncates = true, .offset = size});
  }
  Result<> extend_with_zeros(std::uint64_t size) override {
    const std::lock_guard lock(disk_.mutex_);
    RQ_CHECK(alive());
    RQ_CHECK(disk_.tick("write", path_));
    return inode_->content.size() >= size ? Result<>() : put({.truncates = true, .offset = size});
  }
  Result<> sync() override {
    const std::lock_guard lock(disk_.mutex_);
    RQ_CHECK(alive());
    if (const Result<> ticked = disk_.tick("sync", path_); !ticked) {
      // As Linux does: after a failed sync the dirty pages count as clean, and nobody knows what is on the disk.
      inode_->unsynced.clear();
      return ticked;
    }
    inode_->durable = inode_->content;
    inode_->unsynced.clear();
    return {};
  }
  Result<std::uint64_t> size() const override {
    const std::lock_guard lock(disk_.mutex_);
    RQ_CHECK(alive());
    return inode_->content.size();
  }

 private:
  Result<> alive() const {
    if (epoch_ != disk_.epoch_) return fail(Errc::Io, "file " + path_ + " was open when the power went");
    return {};
  }
  Result<> put(Operation operation) {
    const std::uint64_t size = operation.truncates ? operation.offset : std::max<std::uint64_t>(inode_->content.size(), operation.offset + operation.bytes.size());
    const std::uint64_t before = inode_->content.size();
    if (size > before) {
      RQ_CHECK(disk_.make_room(size - before));
    } else {
      disk_.used_ -= before - size;
    }
    operation.number = ++disk_.operations_;
    perform(inode_->content, operation);
    inode_->unsynced.push_back(std::move(operation));
    return {};
  }

  MemoryDisk& disk_;
  const std::shared_ptr<MemoryDisk::Inode> inode_;
  const std::string path_;
  const std::uint64_t epoch_;
};

MemoryDisk::MemoryDisk() = default;
MemoryDisk::~MemoryDisk() = default;

Result<> MemoryDisk::tick(std::string_view call, const std::string& path) {
  ++calls_;
  if (fail_at_ == 0 || calls_ < fail_at_ || (calls_ > fail_at_ && !fail_for_ever_)) return {};
  return fail(fail_code_, std::string(call) + " " + path + ": failed on purpose");
}

Result<> MemoryDisk::make_room(std::uint64_t bytes) {
  if (used_ + bytes > capacity_) return fail(Errc::NoSpace, "No space left on device");
  used_ += bytes;
  return {};
}

Result<std::unique_ptr<io::File>> MemoryDisk::open(const std::string& path, io::OpenMode mode) {
  const std::lock_guard lock(mutex_);
  auto found = names_.find(path);
  if (mode == io::OpenMode::CreateNew && found != names_.end()) return fail(Errc::AlreadyExists, "open " + path + ": File exists");
  if (found == names_.end()) {
    if (mode == io::OpenMode::ReadOnly || mode == io::OpenMode::ReadWrite) return fail(Errc::NotFound, "open " + path + ": No such file or directory");
    RQ_CHECK(tick("open", path));
    found = names_.emplace(path, std::make_shared<Inode>()).first;
  }
  return std::unique_ptr<io::File>(new MemoryFile(*this, found->second, path, epoch_));
}

Result<> MemoryDisk::remove(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(path);
  if (found == names_.end()) return fail(Errc::NotFound, "remove " + path + ": No such file or directory");
  RQ_CHECK(tick("remove", path));
  used_ -= found->second->content.size();
  names_.erase(found);
  return {};
}

bool MemoryDisk::is_folder(const std::string& path) const {
  const auto first = names_.lower_bound(path + "/");
  return first != names_.end() && first->first.starts_with(path + "/");
}

Result<> MemoryDisk::remove_dir(const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (is_folder(path)) return fail(Errc::Io, "remove " + path + ": Directory not empty");
  return tick("remove", path);
}

Result<> MemoryDisk::rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  if (is_folder(from)) {
    if (is_folder(to)) return fail(Errc::Io, "rename " + from + ": Directory not empty");
    RQ_CHECK(tick("rename", from));
    move_folder(names_, from, to);
    moved_folders_.emplace_back(from, to);
    return {};
  }
  const auto found = names_.find(from);
  if (found == names_.end()) return fail(Errc::NotFound, "rename " + from + ": No such file or directory");
  RQ_CHECK(tick("rename", from));
  if (const auto old = names_.find(to); old != names_.end()) used_ -= old->second->content.size();
  names_[to] = found->second;
  names_.erase(from);
  return {};
}

Result<> MemoryDisk::link(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(from);
  if (found == names_.end()) return fail(Errc::NotFound, "link " + from + ": No such file or directory");
  RQ_CHECK(tick("link", from));
  names_[to] = found->second;
  return {};
}

Result<std::vector<std::string>> MemoryDisk::list(const std::string& dir) {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (auto at = names_.lower_bound(dir + "/"); at != names_.end() && at->first.starts_with(dir + "/"); ++at) {
    const std::size_t begin = dir.size() + 1;
    std::string name = at->first.substr(begin, at->first.find('/', begin) - begin);
    if (out.empty() || out.back() != name) out.push_back(std::move(name));
  }
  std::ranges::sort(out);
  return out;
}

Result<bool> MemoryDisk::exists(const std::string& path) {
  const std::lock_guard lock(mutex_);
  return names_.contains(path) || is_folder(path);
}

Result<> MemoryDisk::make_dirs(const std::string&) { return {}; }

Result<> MemoryDisk::sync_dir(const std::string& dir) {
  const std::lock_guard lock(mutex_);
  RQ_CHECK(tick("sync directory", dir));
  std::erase_if(moved_folders_, [&](const auto& moved) {
    if (parent(moved.first) != dir && parent(moved.second) != dir) return false;
    move_folder(durable_names_, moved.first, moved.second);
    return true;
  });
  std::erase_if(durable_names_, [&](const auto& item) { return parent(item.first) == dir; });
  for (const auto& [path, inode] : names_)
    if (parent(path) == dir) durable_names_[path] = inode;
  return {};
}

Result<std::uint64_t> MemoryDisk::free_bytes(const std::string&) {
  const std::lock_guard lock(mutex_);
  return capacity_ == UINT64_MAX ? std::uint64_t{1} << 40 : capacity_ - used_;
}

void MemoryDisk::lose_power(SeededRng& rng, Loss loss) {
  const std::lock_guard lock(mutex_);
  ++epoch_;
  if (loss == Loss::None) return;
  const std::uint64_t survives_to = loss == Loss::Suffix && operations_ > 0 ? rng.below(operations_ + 1) : 0;
  names_ = durable_names_;
  moved_folders_.clear();
  std::set<Inode*> seen;
  used_ = 0;
  for (auto& [path, inode] : names_) {
    if (!seen.insert(inode.get()).second) continue;
    std::string content = inode->durable;
    for (const Operation& operation : inode->unsynced) {
      if (loss == Loss::Suffix && operation.number <= survives_to) perform(content, operation);
      if (loss != Loss::Sectors) continue;
      if (operation.truncates) {
        if (rng.below(2) == 0) perform(content, operation);
        continue;
      }
      for (std::uint64_t at = 0; at < operation.bytes.size();) {
        const std::uint64_t here = std::min<std::uint64_t>(kSector - (operation.offset + at) % kSector, operation.bytes.size() - at);
        if (rng.below(2) == 0) perform(content, {.offset = operation.offset + at, .bytes = operation.bytes.substr(at, here)});
        at += here;
      }
    }
    inode = std::make_shared<Inode>(Inode{content, content, {}});
    used_ += content.size();
  }
  durable_names_ = names_;
}

void MemoryDisk::fail_call(std::uint64_t n, Errc code, bool for_ever) {
  const std::lock_guard lock(mutex_);
  fail_at_ = calls_ + n;
  fail_code_ = code;
  fail_for_ever_ = for_ever;
}

void MemoryDisk::heal() {
  const std::lock_guard lock(mutex_);
  fail_at_ = 0;
}

bool MemoryDisk::failed() const {
  const std::lock_guard lock(mutex_);
  return fail_at_ != 0 && calls_ >= fail_at_;
}

void MemoryDisk::leave_free(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  capacity_ = used_ + bytes;
}

void MemoryDisk::set_capacity(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  capacity_ = bytes;
}

std::uint64_t MemoryDisk::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

std::string MemoryDisk::contents(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(path);
  return found == names_.end() ? std::string() : found->second->content;
}

void MemoryDisk::overwrite(const std::string& path, const std::string& bytes) {
  const std::lock_guard lock(mutex_);
  auto& inode = names_[path];
  inode = std::make_shared<Inode>(Inode{bytes, bytes, {}});
  durable_names_[path] = inode;
}

}  // namespace rq::test
