#include "import/input.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

namespace rq::import {
namespace {

constexpr std::size_t kPiece = 256u << 10;

class RangeInput final : public Input {
 public:
  explicit RangeInput(FileRange range) : range_(std::move(range)) {}
  Result<std::size_t> read(std::span<char> out) override {
    const std::uint64_t count = std::min<std::uint64_t>(out.size(), range_.size() - at_);
    if (count == 0) return std::size_t{0};
    RQ_TRY(const std::string bytes, range_.read(at_, count));
    std::memcpy(out.data(), bytes.data(), bytes.size());
    at_ += bytes.size();
    return bytes.size();
  }

 private:
  const FileRange range_;
  std::uint64_t at_ = 0;
};

class TextInput final : public Input {
 public:
  explicit TextInput(std::string_view bytes) : bytes_(bytes) {}
  Result<std::size_t> read(std::span<char> out) override {
    const std::size_t count = bytes_.copy(out.data(), out.size());
    bytes_.remove_prefix(count);
    return count;
  }

 private:
  std::string_view bytes_;
};

class GzipInput final : public Input {
 public:
  GzipInput(std::unique_ptr<Input> below, std::string source) : below_(std::move(below)), source_(std::move(source)), buffer_(kPiece, '\0') {}
  ~GzipInput() override { ::inflateEnd(&stream_); }
  GzipInput(const GzipInput&) = delete;

  Result<std::size_t> read(std::span<char> out) override {
    const std::size_t wanted = std::min<std::size_t>(out.size(), kPiece);
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(wanted);
    while (stream_.avail_out == wanted && wanted > 0) {
      if (stream_.avail_in == 0 && !source_ended_) RQ_CHECK(refill());
      if (between_streams_) {
        if (stream_.avail_in == 0) return members_ > 0 ? Result<std::size_t>(std::size_t{0}) : damaged("no gzip data");
        if (!begin_stream()) return fail(Errc::Internal, "out of memory");
      }
      const int code = ::inflate(&stream_, Z_NO_FLUSH);
      if (code == Z_STREAM_END) {
        between_streams_ = true;
        ++members_;
      } else if (code == Z_BUF_ERROR && source_ended_ && stream_.avail_in == 0) {
        return damaged("gzip data ends too early");
      } else if (code != Z_OK && code != Z_BUF_ERROR) {
        return damaged("gzip data is damaged");
      } else if (source_ended_ && stream_.avail_in == 0 && stream_.avail_out == wanted) {
        return damaged("gzip data ends too early");
      }
    }
    return wanted - stream_.avail_out;
  }

 private:
  Result<> refill() {
    RQ_TRY(const std::size_t got, below_->read(buffer_));
    stream_.next_in = reinterpret_cast<Bytef*>(buffer_.data());
    stream_.avail_in = static_cast<uInt>(got);
    source_ended_ = got == 0;
    return {};
  }
  bool begin_stream() {
    between_streams_ = false;
    if (ready_) return ::inflateReset(&stream_) == Z_OK;
    ready_ = true;
    return ::inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK;    // 16: gzip only
  }
  tl::unexpected<Error> damaged(const char* what) const { return fail(Errc::Corrupt, source_ + ": " + what); }

  const std::unique_ptr<Input> below_;
  const std::string source_;
  std::string buffer_;
  z_stream stream_{};
  bool ready_ = false, between_streams_ = true, source_ended_ = false;
  unsigned members_ = 0;
};

}  // namespace

std::unique_ptr<Input> input_of(FileRange range) { return std::make_unique<RangeInput>(std::move(range)); }
std::unique_ptr<Input> input_of(std::string_view bytes) { return std::make_unique<TextInput>(bytes); }
std::unique_ptr<Input> gunzip(std::unique_ptr<Input> compressed, std::string source) {
  return std::make_unique<GzipInput>(std::move(compressed), std::move(source));
}

Result<std::string> read_all(Input& input, std::uint64_t bytes_max, const std::string& source) {
  std::string all;
  std::string piece(kPiece, '\0');
  for (;;) {
    RQ_TRY(const std::size_t got, input.read(piece));
    if (got == 0) return all;
    if (got > bytes_max - all.size()) return fail(Errc::TooLarge, source + " has more than " + std::to_string(bytes_max) + " bytes");
    all.append(piece, 0, got);
  }
}

Result<std::string> read_exactly(Input& input, std::size_t count, const std::string& source) {
  std::string bytes(count, '\0');
  for (std::size_t done = 0; done < count;) {
    RQ_TRY(const std::size_t got, input.read(std::span(bytes).subspan(done)));
    if (got == 0) return fail(Errc::Corrupt, source + " ends too early");
    done += got;
  }
  return bytes;
}

Result<std::uint64_t> copy_to(Input& input, io::File& file, std::uint64_t at, const Progress& progress,
                              const std::function<void(std::string_view)>& look) {
  const std::uint64_t begin = at;
  std::string piece(kPiece, '\0');
  for (;;) {
    RQ_TRY(const std::size_t got, input.read(piece));
    if (got == 0) return at - begin;
    const std::string_view bytes = std::string_view(piece).substr(0, got);
    if (look) look(bytes);
    RQ_CHECK(file.write_at(at, bytes));
    at += got;
    if (progress && !progress(at - begin)) return fail(Errc::Canceled, "stopped");
  }
}

}  // namespace rq::import
