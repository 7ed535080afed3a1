// gzip in pieces, both ways.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "backup/source.h"
#include "base/result.h"

namespace rq::backup {

// What `source` gives, compressed (level 1, no name, no time).
Result<std::unique_ptr<Source>> compressed(std::unique_ptr<Source> source);

// Unpacks what comes in pieces; members may follow each other.
class Gunzip {
 public:
  static bool begins(std::string_view head) { return head.starts_with("\x1f\x8b"); }
  Gunzip();
  ~Gunzip();
  // Calls `out` with what `bytes` unpack to, in pieces. Errc::BadRequest: that is no gzip; or the error of `out`.
  Result<> add(std::string_view bytes, const std::function<Result<>(std::string_view)>& out);
  Result<> end() const;              // Errc::BadRequest: the end is missing

 private:
  struct Stream;
  const std::unique_ptr<Stream> stream_;
};

}  // namespace rq::backup
