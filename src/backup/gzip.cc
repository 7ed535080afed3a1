#include "backup/gzip.h"

#include <zlib.h>

#include <array>

namespace rq::backup {
namespace {

constexpr int kGzipWindow = 15 + 16;
constexpr std::size_t kOutBytes = 64 * 1024;

class Compressed final : public Source {
 public:
  explicit Compressed(std::unique_ptr<Source> source) : source_(std::move(source)) {}
  ~Compressed() override { deflateEnd(&stream_); }
  bool begin() { return deflateInit2(&stream_, Z_BEST_SPEED, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) == Z_OK; }

  Result<Piece> next() override {
    Piece out;
    while (out.bytes.size() < kPieceBytes / 2 && !out.last) {
      RQ_TRY(const Piece piece, source_->next());
      add(piece, out.bytes);
      out.last = piece.last;
    }
    return out;
  }
  void cancel() override { source_->cancel(); }

 private:
  void add(const Piece& piece, std::string& out) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.bytes.data()));
    stream_.avail_in = static_cast<uInt>(piece.bytes.size());
    do {
      const std::size_t size = out.size();
      out.resize(size + kOutBytes);
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + size);
      stream_.avail_out = static_cast<uInt>(kOutBytes);
      deflate(&stream_, piece.last ? Z_FINISH : Z_NO_FLUSH);
      out.resize(size + kOutBytes - stream_.avail_out);
    } while (stream_.avail_out == 0);
  }

  const std::unique_ptr<Source> source_;
  z_stream stream_{};
};

}  // namespace

Result<std::unique_ptr<Source>> compressed(std::unique_ptr<Source> source) {
  auto out = std::make_unique<Compressed>(std::move(source));
  if (!out->begin()) return fail(Errc::Internal, "out of memory");
  return std::unique_ptr<Source>(std::move(out));
}

struct Gunzip::Stream {
  z_stream z{};
  bool good = false, ended = false;
  std::array<char, kOutBytes> out{};
};

Gunzip::Gunzip() : stream_(std::make_unique<Stream>()) { stream_->good = inflateInit2(&stream_->z, kGzipWindow) == Z_OK; }
Gunzip::~Gunzip() { inflateEnd(&stream_->z); }

Result<> Gunzip::add(std::string_view bytes, const std::function<Result<>(std::string_view)>& out) {
  z_stream& z = stream_->z;
  if (!stream_->good) return fail(Errc::Internal, "out of memory");
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  z.avail_in = static_cast<uInt>(bytes.size());
  while (z.avail_in > 0 || z.avail_out == 0) {
    if (stream_->ended) {
      if (z.avail_in == 0) break;
      inflateReset(&z);
      stream_->ended = false;
    }
    z.next_out = reinterpret_cast<Bytef*>(stream_->out.data());
    z.avail_out = static_cast<uInt>(stream_->out.size());
    const int code = inflate(&z, Z_NO_FLUSH);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) return fail(Errc::BadRequest, "invalid gzip data");
    stream_->ended = code == Z_STREAM_END;
    const std::size_t size = stream_->out.size() - z.avail_out;
    if (size > 0) RQ_CHECK(out(std::string_view(stream_->out.data(), size)));
    if (code == Z_BUF_ERROR && size == 0) break;
  }
  z.avail_out = 1;                   // nothing is held back: add() is not to loop without input
  return {};
}

Result<> Gunzip::end() const {
  if (!stream_->ended) return fail(Errc::BadRequest, "invalid gzip data: its end is missing");
  return {};
}

}  // namespace rq::backup
