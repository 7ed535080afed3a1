// CRC32C (Castagnoli, reflected 0x82F63B78), as used by every frame and record of ours.
// crc32c(b, crc32c(a)) == crc32c(a + b). Uses the processor's instruction where there is one.
#pragma once

#include <cstdint>
#include <string_view>

namespace rq {
std::uint32_t crc32c(std::string_view bytes, std::uint32_t previous = 0) noexcept;
}
