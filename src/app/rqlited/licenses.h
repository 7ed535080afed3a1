// The notices of everything that is part of this program, for GET /licenses (made by cmake/Licenses.cmake).
#pragma once

#include <string_view>

namespace rq::app {
std::string_view licenses();
}
