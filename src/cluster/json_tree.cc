#include "cluster/json_tree.h"

#include "base/go_text.h"

namespace rq::cluster {

void JsonTree::set(std::string_view text) {
  raw_.clear();
  append_json_string(raw_, text);
}

void JsonTree::write(std::string& out) const {
  if (!raw_.empty()) {
    out += raw_;
    return;
  }
  out += '{';
  bool first = true;
  for (const auto& [name, child] : members_) {
    if (!first) out += ',';
    first = false;
    append_json_string(out, name);
    out += ':';
    child.write(out);
  }
  out += '}';
}

}  // namespace rq::cluster
