#include "import/command_reader.h"

#include <algorithm>
#include <limits>
#include <optional>

namespace rq::import {
namespace {

constexpr std::uint64_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;
constexpr std::uint64_t kVarintBytesMax = 10;

// Walks the fields of a message in a file without reading their contents.
class FieldScanner {
 public:
  FieldScanner(FileRange range, const std::string& what) : range_(std::move(range)), what_(what) {}

  struct Field {
    std::uint64_t number = 0, wire = 0;
    std::uint64_t value = 0;   // of a varint
    FileRange bytes;
  };
  // nullopt: the end.
  Result<std::optional<Field>> next() {
    if (at_ == range_.size()) return std::optional<Field>();
    Field field;
    RQ_TRY(const std::uint64_t tag, varint());
    field.number = tag >> 3;
    field.wire = tag & 7;
    std::uint64_t size = 0;
    switch (field.wire) {
      case kVarint: {
        RQ_TRY(field.value, varint());
        break;
      }
      case kFixed64: size = 8; break;
      case kFixed32: size = 4; break;
      case kBytes: {
        RQ_TRY(size, varint());
        break;
      }
      default: return damaged();
    }
    if (field.number == 0 || size > range_.size() - at_) return damaged();
    RQ_TRY(field.bytes, range_.part(at_, size));
    at_ += size;
    return std::optional(std::move(field));
  }

 private:
  Result<std::uint64_t> varint() {
    RQ_TRY(const std::string bytes, range_.read_some(at_, kVarintBytesMax));
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const auto byte = static_cast<unsigned char>(bytes[i]);
      value |= std::uint64_t{byte & 0x7fu} << (7 * i);
      if (byte < 0x80) {
        at_ += i + 1;
        return value;
      }
    }
    return damaged();
  }
  tl::unexpected<Error> damaged() const { return range_.corrupt("the command of " + what_ + " is damaged", at_); }

  const FileRange range_;
  const std::string& what_;
  std::uint64_t at_ = 0;
};

Result<std::string> unpacked(const Command& command, bool compressed, const std::string& what) {
  std::unique_ptr<Input> input = input_of(command.body);
  if (compressed) input = gunzip(std::move(input), what);
  return read_all(*input, kRequestBytesMax, what);
}

template <class Message>
Result<Message> parse(std::string_view bytes, const std::string& what) {
  Message message;
  static_assert(kRequestBytesMax < std::uint64_t{std::numeric_limits<int>::max()});
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return fail(Errc::Corrupt, what + ": the command is damaged");
  return message;
}

// LoadRequest { bytes data = 1 }: the field's head is read, the rest passes through.
class LoadInput final : public Input {
 public:
  LoadInput(std::unique_ptr<Input> message, const std::string& what) : message_(std::move(message)), what_(what) {}

  Result<> begin() {
    std::string tag(1, '\0');
    RQ_TRY(const std::size_t got, message_->read(tag));
    if (got == 0) return {};    // an empty message: an empty image
    if (tag[0] != (1 << 3 | kBytes)) return fail(Errc::Corrupt, what_ + ": the load is damaged");
    for (unsigned shift = 0; shift < 64; shift += 7) {
      RQ_TRY(const std::string text, read_exactly(*message_, 1, what_));
      const auto byte = static_cast<unsigned char>(text[0]);
      left_ |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return {};
    }
    return fail(Errc::Corrupt, what_ + ": the load is damaged");
  }
  Result<std::size_t> read(std::span<char> out) override {
    if (left_ == 0) return at_end();
    RQ_TRY(const std::size_t got, message_->read(out.first(static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), left_)))));
    if (got == 0) return fail(Errc::Corrupt, what_ + ": the load ends too early");
    left_ -= got;
    return got;
  }

 private:
  // Only who reads on to the end of the compressed data has its checksum looked at.
  Result<std::size_t> at_end() {
    std::string more(1, '\0');
    RQ_TRY(const std::size_t got, message_->read(more));
    if (got != 0) return fail(Errc::Corrupt, what_ + ": the load has bytes behind the database");
    return std::size_t{0};
  }

  const std::unique_ptr<Input> message_;
  const std::string what_;
  std::uint64_t left_ = 0;
};

}  // namespace

Result<Command> read_command(const FileRange& data, const std::string& what) {
  Command command;
  std::uint64_t kind = 0;
  FieldScanner scanner(data, what);
  for (;;) {
    RQ_TRY(const std::optional<FieldScanner::Field> field, scanner.next());
    if (!field) break;
    if (field->number == 1 && field->wire == kVarint) kind = field->value;
    if (field->number == 2 && field->wire == kBytes) command.body = field->bytes;
    if (field->number == 3 && field->wire == kVarint) command.compressed = field->value != 0;
  }
  if (kind < 1 || kind > 7) return fail(Errc::Unsupported, what + " holds a command of an unknown kind (" + std::to_string(kind) + ")");
  command.kind = static_cast<Command::Kind>(kind);
  return command;
}

Result<pb::Request> read_request(const Command& command, const std::string& what) {
  RQ_TRY(const std::string bytes, unpacked(command, command.compressed, what));
  RQ_TRY(pb::Requesting message, parse<pb::Requesting>(bytes, what));
  return std::move(*message.mutable_request());
}

Result<pb::LoadChunk> read_load_chunk(const Command& command, const std::string& what) {
  RQ_TRY(const std::string bytes, unpacked(command, false, what));
  return parse<pb::LoadChunk>(bytes, what);
}

Result<std::unique_ptr<Input>> read_load(const Command& command, const std::string& what) {
  auto load = std::make_unique<LoadInput>(gunzip(input_of(command.body), what), what);
  RQ_CHECK(load->begin());
  return std::unique_ptr<Input>(std::move(load));
}

}  // namespace rq::import
