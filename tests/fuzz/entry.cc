// libFuzzer's entry into the target that RQ_FUZZ_TARGET names.
#include <cstddef>
#include <cstdint>

#include "base/log.h"
#include "fuzz/targets.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  rq::log::set_level(rq::log::Level::Error);   // a failed assertion says which
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  rq::fuzz::RQ_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
  return 0;
}
