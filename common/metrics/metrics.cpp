#include "common/metrics/metrics.h"

#include "common/base/utf8.h"

namespace millrace {
namespace {

std::string escaped(std::string_view value) {
  std::string text;
  for (char c : protocol::is_utf8(value) ? std::string(value) : protocol::to_utf8(value)) {
    if (c == '\\' || c == '"') text += '\\';
    if (c == '\n') {
      text += "\\n";
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace

void Exposition::head(std::string_view name, std::string_view type, std::string_view help) {
  name_ = fmt::format("millrace_{}", name);
  text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name_, help, name_, type);
}

void Exposition::add_labels(Labels labels) {
  char before = '{';
  for (const Label& label : labels) {
    text_ += fmt::format("{}{}=\"{}\"", before, label.name, escaped(label.value));
    before = ',';
  }
  if (labels.size() > 0) text_ += '}';
}

}  // namespace millrace
