// Exposition: writes metrics in the text format of Prometheus (0.0.4). The samples of a family follow its head, which the
// caller writes first. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/histogram.h"

namespace rq::ops {

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

class Exposition {
 public:
  void gauge(std::string_view name, std::string_view help) { head(name, "gauge", help); }
  void counter(std::string_view name, std::string_view help) { head(name, "counter", help); }     // the name ends in _total
  void histogram(std::string_view name, std::string_view help) { head(name, "histogram", help); }

  void sample(std::uint64_t value, const Labels& labels = {});
  void sample(std::int64_t value, const Labels& labels = {});
  void sample(double value, const Labels& labels = {});
  // Of nanoseconds, told in seconds. One bucket an octave is told, from about a microsecond to about a minute.
  void times(const Histogram& histogram, const Labels& labels = {});

  // A whole family of one sample.
  template <class Value>
  void gauge(std::string_view name, std::string_view help, Value value) {
    gauge(name, help);
    sample(value);
  }
  template <class Value>
  void counter(std::string_view name, std::string_view help, Value value) {
    counter(name, help);
    sample(value);
  }

  std::string take() { return std::move(out_); }

 private:
  void head(std::string_view name, std::string_view type, std::string_view help);
  void line(std::string_view suffix, const Labels& labels, std::string_view extra_name, std::string_view extra_value, std::string_view value);

  std::string out_;
  std::string name_;                 // of the present family
};

}  // namespace rq::ops
