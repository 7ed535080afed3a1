#include "base/digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace rq {
namespace {

std::string text(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  return {reinterpret_cast<const char*>(canonical.digest), sizeof canonical.digest};
}

}  // namespace

struct Digest::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Digest::Digest() : state_(std::make_unique<State>()) { XXH3_128bits_reset(state_->xxh); }
Digest::~Digest() = default;
void Digest::add(std::string_view bytes) { XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size()); }
std::string Digest::value() const { return text(XXH3_128bits_digest(state_->xxh)); }
std::string Digest::of(std::string_view bytes) { return text(XXH3_128bits(bytes.data(), bytes.size())); }

}  // namespace rq
