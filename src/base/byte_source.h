// ByteSource: bytes in pieces, pulled by whoever sends them on, so that nothing piles up between the two.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"

namespace rq {

struct Piece {
  std::string bytes;
  bool last = false;     // nothing comes behind it
};

class ByteSource {
 public:
  // Letting go of it before the last piece gives up: its work ends soon.
  virtual ~ByteSource() = default;
  // The next piece. `done` is called exactly once, from any thread, perhaps before next() returns; next() is not called
  // again before that, nor after an error or the last piece. Must not block.
  virtual void next(std::function<void(Result<Piece>)> done) = 0;
};

}  // namespace rq
