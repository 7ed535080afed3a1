// Limits of a membership change, for the binding; the codec itself is declared in engine.h.
#pragma once

#include "raft/engine.h"

namespace rq::raft {
Result<> check_limits(const ConfChange& change);  // Errc::TooLarge, Errc::BadRequest: what decode_conf_change() would refuse
}
