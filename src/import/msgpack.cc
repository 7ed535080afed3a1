#include "import/msgpack.h"

namespace rq::import {
namespace {

constexpr std::uint64_t kWindow = 512;
constexpr unsigned kDepthMax = 16;

}  // namespace

tl::unexpected<Error> MsgpackReader::unexpected_tag(std::uint64_t tag) const {
  return range_.corrupt("a value of an unexpected kind (" + std::to_string(tag) + ")", at_ == 0 ? 0 : at_ - 1);
}

Result<std::string> MsgpackReader::take(std::uint64_t count) {
  if (count > range_.size() - at_) return range_.corrupt("a value is cut short", at_);
  if (count > kWindow) {
    RQ_TRY(std::string bytes, range_.read(at_, count));
    at_ += count;
    return bytes;
  }
  if (at_ < window_at_ || at_ + count > window_at_ + window_.size()) {
    RQ_TRY(window_, range_.read_some(at_, kWindow));
    window_at_ = at_;
    if (window_.size() < count) return range_.corrupt("the file is shorter than it was", at_);
  }
  std::string bytes = window_.substr(at_ - window_at_, count);
  at_ += count;
  return bytes;
}

Result<std::uint64_t> MsgpackReader::byte() { return big(1); }

Result<std::uint64_t> MsgpackReader::big(std::uint64_t bytes) {
  RQ_TRY(const std::string taken, take(bytes));
  return big_endian(taken);
}

Result<> MsgpackReader::pass(std::uint64_t count) {
  if (count > range_.size() - at_) return range_.corrupt("a value is cut short", at_);
  at_ += count;
  return {};
}

Result<std::uint64_t> MsgpackReader::map_size() {
  RQ_TRY(const std::uint64_t tag, byte());
  if ((tag & 0xf0) == 0x80) return tag & 0x0f;
  if (tag == 0xde) return big(2);
  if (tag == 0xdf) return big(4);
  return unexpected_tag(tag);
}

Result<std::uint64_t> MsgpackReader::array_size() {
  RQ_TRY(const std::uint64_t tag, byte());
  if (tag == 0xc0) return std::uint64_t{0};
  if ((tag & 0xf0) == 0x90) return tag & 0x0f;
  if (tag == 0xdc) return big(2);
  if (tag == 0xdd) return big(4);
  return unexpected_tag(tag);
}

Result<std::uint64_t> MsgpackReader::number() {
  RQ_TRY(const std::uint64_t tag, byte());
  if (tag < 0x80) return tag;
  if (tag >= 0xcc && tag <= 0xcf) return big(std::uint64_t{1} << (tag - 0xcc));
  if (tag >= 0xd0 && tag <= 0xd3) {   // signed, as some encoders write small positive ones
    const std::uint64_t bytes = std::uint64_t{1} << (tag - 0xd0);
    RQ_TRY(const std::uint64_t value, big(bytes));
    if (value >> (8 * bytes - 1) == 0) return value;
  }
  return unexpected_tag(tag);
}

Result<std::optional<std::uint64_t>> MsgpackReader::raw_size(std::uint64_t tag) {
  if ((tag & 0xe0) == 0xa0) return std::optional(tag & 0x1f);
  std::uint64_t bytes = 0;
  if (tag == 0xd9 || tag == 0xc4) bytes = 1;
  if (tag == 0xda || tag == 0xc5) bytes = 2;
  if (tag == 0xdb || tag == 0xc6) bytes = 4;
  if (bytes == 0) return std::optional<std::uint64_t>();
  RQ_TRY(const std::uint64_t size, big(bytes));
  return std::optional(size);
}

Result<std::optional<FileRange>> MsgpackReader::raw() {
  RQ_TRY(const std::uint64_t tag, byte());
  if (tag == 0xc0) return std::optional<FileRange>();
  RQ_TRY(const std::optional<std::uint64_t> size, raw_size(tag));
  if (!size) return unexpected_tag(tag);
  RQ_TRY(FileRange value, range_.part(at_, *size));
  RQ_CHECK(pass(*size));
  return std::optional(std::move(value));
}

Result<std::string> MsgpackReader::text(std::uint64_t bytes_max) {
  RQ_TRY(const std::uint64_t tag, byte());
  RQ_TRY(const std::optional<std::uint64_t> size, raw_size(tag));
  if (!size) return unexpected_tag(tag);
  if (*size > bytes_max) return range_.corrupt("a name is too long", at_);
  return take(*size);
}

Result<> MsgpackReader::skip_all(std::uint64_t values, unsigned depth) {
  // Each takes at least a byte: a count that lies ends soon.
  for (std::uint64_t i = 0; i < values; ++i) RQ_CHECK(skip(depth));
  return {};
}

Result<> MsgpackReader::skip(unsigned depth) {
  if (depth > kDepthMax) return range_.corrupt("values are nested too deeply", at_);
  RQ_TRY(const std::uint64_t tag, byte());
  if (tag < 0x80 || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3) return {};
  if ((tag & 0xf0) == 0x80) return skip_all(2 * (tag & 0x0f), depth + 1);
  if ((tag & 0xf0) == 0x90) return skip_all(tag & 0x0f, depth + 1);
  RQ_TRY(const std::optional<std::uint64_t> size, raw_size(tag));
  if (size) return pass(*size);
  if (tag >= 0xcc && tag <= 0xcf) return pass(std::uint64_t{1} << (tag - 0xcc));
  if (tag >= 0xd0 && tag <= 0xd3) return pass(std::uint64_t{1} << (tag - 0xd0));
  if (tag == 0xca) return pass(4);
  if (tag == 0xcb) return pass(8);
  if (tag >= 0xd4 && tag <= 0xd8) return pass(1 + (std::uint64_t{1} << (tag - 0xd4)));   // extensions: type, bytes
  if (tag >= 0xc7 && tag <= 0xc9) {
    RQ_TRY(const std::uint64_t bytes, big(std::uint64_t{1} << (tag - 0xc7)));
    return pass(1 + bytes);
  }
  if (tag >= 0xdc && tag <= 0xdf) {
    RQ_TRY(const std::uint64_t count, big(tag % 2 == 0 ? 2 : 4));
    return skip_all(tag < 0xde ? count : 2 * count, depth + 1);
  }
  return unexpected_tag(tag);
}

}  // namespace rq::import
