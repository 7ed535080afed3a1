// Whether something at host:port answers HTTP: GET /status over a plain socket within the time. Blocks; start-up only.
// HTTPS servers answer a plain request with an HTTP 400, or close: the first counts as HTTP.
#pragma once

#include <chrono>
#include <string>

namespace rq::cluster {
bool serves_http(const std::string& addr, std::chrono::milliseconds timeout);
}
