// The start on a data directory of the reference: it is imported once, in place (import/import.h).
#pragma once

#include <functional>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "config/options.h"
#include "io/disk.h"
#include "replica/membership.h"

namespace rq::app {

// Before anything in the locked data directory is looked at: finishes an import that was interrupted (counts as
// snapshot.upgrade_ok), discards a half-made one. The value: the directory is the reference's, to be imported.
Result<bool> settle_imports(io::Disk& disk, const std::string& data_dir, Metrics& metrics);

// Imports it as a cluster of the one member `self`; counts snapshot.upgrade_ok or upgrade_fail, says in the log how far it is.
// Errors of import::build; Errc::AlreadyExists: a process of the reference runs on it; Canceled: `canceled` said so.
Result<> import_at_start(io::Disk& disk, const config::Options& options, const replica::Member& self, Rng& rng, const Clock& clock, Metrics& metrics,
                         const std::function<bool()>& canceled);

}  // namespace rq::app
