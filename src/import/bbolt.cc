// The format (all numbers little-endian). Page N begins at N x page size: id u64, flags u16, count u16, overflow u32, then
// `count` elements; it takes 1 + overflow pages. Positions in elements count from the start of the element itself.
#include "import/bbolt.h"

#include <vector>

namespace rq::import {
namespace {

constexpr std::uint64_t kPageHeader = 16;
constexpr std::uint64_t kElement = 16;
constexpr std::uint64_t kBranch = 0x01, kLeaf = 0x02, kMeta = 0x04;
constexpr std::uint64_t kBucketFlag = 0x01;
constexpr std::uint64_t kMetaBytes = 64;
constexpr std::uint64_t kMagic = 0xED0CDAED;
constexpr std::uint64_t kVersion = 2;
constexpr std::uint64_t kPageBytesMin = 512, kPageBytesMax = 64u << 10;
constexpr std::uint64_t kKeyMax = 32768;
constexpr unsigned kDepthMax = 32;
constexpr std::uint64_t kWindow = 64u << 10;   // of a page that is read at once

std::uint64_t fnv1a(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  return hash;
}

struct Meta {
  std::uint64_t page_bytes = 0, root = 0, pages = 0, transaction = 0;
};

Result<std::optional<Meta>> read_meta(const FileRange& file, std::uint64_t at) {
  RQ_TRY(const std::string bytes, file.read_some(at, kPageHeader + kMetaBytes));
  if (bytes.size() < kPageHeader + kMetaBytes) return std::optional<Meta>();
  const std::string_view meta = std::string_view(bytes).substr(kPageHeader);
  const auto number = [&meta](std::size_t offset, std::size_t size) { return little_endian(meta.substr(offset, size)); };
  if (number(0, 4) != kMagic || number(56, 8) != fnv1a(meta.substr(0, 56)) || (little_endian(bytes.substr(8, 2)) & kMeta) == 0) return std::optional<Meta>();
  if (number(4, 4) != kVersion) return fail(Errc::Unsupported, file.path() + " is of bbolt version " + std::to_string(number(4, 4)));
  const Meta found{.page_bytes = number(8, 4), .root = number(16, 8), .pages = number(40, 8), .transaction = number(48, 8)};
  const bool power_of_two = (found.page_bytes & (found.page_bytes - 1)) == 0;
  if (found.page_bytes < kPageBytesMin || found.page_bytes > kPageBytesMax || !power_of_two) return std::optional<Meta>();
  return std::optional(found);
}

// The elements of one page, each within it. Pages are small; of one with an overflow only the head is kept.
class Elements {
 public:
  static Result<Elements> of(const FileRange& page, std::uint64_t count) {
    Elements elements(page);
    RQ_TRY(elements.head_, page.read_some(0, std::max(kWindow, kPageHeader + count * kElement)));
    if (elements.head_.size() < kPageHeader + count * kElement) return page.corrupt("a page is too small for its elements");
    return elements;
  }
  std::string_view table(std::uint64_t number) const { return std::string_view(head_).substr(at(number), kElement); }
  static std::uint64_t at(std::uint64_t number) { return kPageHeader + number * kElement; }
  Result<std::string> key(std::uint64_t number, std::uint64_t position, std::uint64_t size) const {
    if (size > kKeyMax) return page_.corrupt("a key is too long", at(number));
    const std::uint64_t start = at(number) + position;
    if (start + size <= head_.size()) return head_.substr(start, size);
    return page_.read(start, size);
  }

 private:
  explicit Elements(const FileRange& page) : page_(page) {}
  const FileRange& page_;
  std::string head_;
};

}  // namespace

// What a walk has seen; `visit` gets the flags of elements, too.
struct BoltFile::Walk {
  std::string_view from;
  std::function<Result<bool>(std::string_view key, const FileRange& value, bool is_bucket)> visit;
  std::optional<std::string> last;
};

Result<BoltFile> BoltFile::open(FileRange file) {
  RQ_TRY(std::optional<Meta> first, read_meta(file, 0));
  // The second one lies a page further; when the first is damaged the page size is found by trying.
  std::optional<Meta> second;
  for (std::uint64_t bytes = kPageBytesMin; bytes <= kPageBytesMax && !second; bytes *= 2) {
    if (first && bytes != first->page_bytes) continue;
    RQ_TRY(second, read_meta(file, bytes));
    if (second && second->page_bytes != bytes) second.reset();
  }
  const std::optional<Meta>& newest = second && (!first || second->transaction > first->transaction) ? second : first;
  if (!newest) return file.corrupt("no valid header: it is no bbolt file, or its beginning is damaged");
  BoltFile bolt(std::move(file));
  bolt.page_bytes_ = newest->page_bytes;
  bolt.root_ = newest->root;
  bolt.pages_ = newest->pages;
  return bolt;
}

Result<FileRange> BoltFile::page(std::uint64_t id) const {
  if (id < 2 || id >= pages_ || id > file_.size() / page_bytes_) return file_.corrupt("page " + std::to_string(id) + " is outside of the file");
  const std::uint64_t at = id * page_bytes_;
  RQ_TRY(const std::string header, file_.read(at, kPageHeader));
  if (little_endian(header.substr(0, 8)) != id) return file_.corrupt("page " + std::to_string(id) + " says that it is another one", at);
  const std::uint64_t overflow = little_endian(header.substr(12, 4));
  if (overflow >= pages_ - id) return file_.corrupt("page " + std::to_string(id) + " is too long", at);
  return file_.part(at, (1 + overflow) * page_bytes_);
}

Result<bool> BoltFile::visit_page(const FileRange& page, Walk& walk, unsigned depth) const {
  if (depth > kDepthMax) return page.corrupt("the tree of pages is too deep");
  RQ_TRY(const std::string header, page.read(0, kPageHeader));
  const std::uint64_t flags = little_endian(header.substr(8, 2)), count = little_endian(header.substr(10, 2));
  if (flags == kBranch) return visit_branch(page, count, walk, depth);
  if (flags == kLeaf) return visit_leaf(page, count, walk);
  return page.corrupt("a page is neither branch nor leaf");
}

Result<bool> BoltFile::visit_branch(const FileRange& page, std::uint64_t count, Walk& walk, unsigned depth) const {
  if (count == 0) return page.corrupt("a branch without children");
  RQ_TRY(const Elements elements, Elements::of(page, count));
  struct Child {
    std::string key;
    std::uint64_t id = 0;
  };
  std::vector<Child> children;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string_view element = elements.table(i);
    RQ_TRY(std::string key, elements.key(i, little_endian(element.substr(0, 4)), little_endian(element.substr(4, 4))));
    if (!children.empty() && key <= children.back().key) return page.corrupt("keys are out of order", Elements::at(i));
    children.push_back({std::move(key), little_endian(element.substr(8, 8))});
  }
  for (std::size_t i = 0; i < children.size(); ++i) {
    if (i + 1 < children.size() && children[i + 1].key <= walk.from) continue;
    RQ_TRY(const FileRange child, this->page(children[i].id));
    RQ_TRY(const bool more, visit_page(child, walk, depth + 1));
    if (!more) return false;
  }
  return true;
}

Result<bool> BoltFile::visit_leaf(const FileRange& page, std::uint64_t count, Walk& walk) const {
  RQ_TRY(const Elements elements, Elements::of(page, count));
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string_view element = elements.table(i);
    const std::uint64_t flags = little_endian(element.substr(0, 4)), position = little_endian(element.substr(4, 4));
    const std::uint64_t key_size = little_endian(element.substr(8, 4)), value_size = little_endian(element.substr(12, 4));
    RQ_TRY(std::string key, elements.key(i, position, key_size));
    if (walk.last && key <= *walk.last) return page.corrupt("keys are out of order", Elements::at(i));
    RQ_TRY(const FileRange value, page.part(Elements::at(i) + position + key_size, value_size));
    walk.last = key;
    if (key < walk.from) continue;
    RQ_TRY(const bool more, walk.visit(key, value, (flags & kBucketFlag) != 0));
    if (!more) return false;
  }
  return true;
}

Result<FileRange> BoltFile::bucket_root(std::string_view bucket) const {
  std::optional<FileRange> found;
  Walk walk{.from = bucket, .visit = [&](std::string_view key, const FileRange& value, bool is_bucket) -> Result<bool> {
              if (key == bucket && is_bucket) found = value;
              return false;
            }, .last = {}};
  RQ_TRY(const FileRange root, page(root_));
  RQ_TRY(const bool unused, visit_page(root, walk, 0));
  (void)unused;
  if (!found) return fail(Errc::NotFound, file_.path() + " has no bucket " + std::string(bucket));
  RQ_TRY(const std::string header, found->read(0, kPageHeader));
  const std::uint64_t id = little_endian(header.substr(0, 8));
  if (id != 0) return page(id);
  return found->part(kPageHeader, found->size() - kPageHeader);   // a small bucket lies within its parent's value
}

Result<> BoltFile::walk(std::string_view bucket, std::string_view from, const Visit& visit) const {
  RQ_TRY(const FileRange root, bucket_root(bucket));
  Walk walk{.from = from, .visit = [&](std::string_view key, const FileRange& value, bool is_bucket) -> Result<bool> {
              if (is_bucket) return value.corrupt("a bucket where a value should be");
              return visit(key, value);
            }, .last = {}};
  RQ_TRY(const bool unused, visit_page(root, walk, 0));
  (void)unused;
  return {};
}

Result<std::optional<FileRange>> BoltFile::find(std::string_view bucket, std::string_view key) const {
  std::optional<FileRange> found;
  RQ_CHECK(walk(bucket, key, [&](std::string_view at, const FileRange& value) -> Result<bool> {
    if (at == key) found = value;
    return false;
  }));
  return found;
}

}  // namespace rq::import
