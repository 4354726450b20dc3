#include "tests/support/disk_op.h"

namespace millrace::test {

void apply_name(const DiskOp& op, std::map<std::string, size_t>* names) {
  if (op.kind == DiskOp::create) {
    (*names)[op.name] = op.file;
  } else if (op.kind == DiskOp::rename) {
    auto found = names->find(op.name);
    if (found == names->end()) return;
    size_t file = found->second;
    names->erase(found);
    (*names)[op.to] = file;
  } else {
    names->erase(op.name);
  }
}

void put_bytes(std::string* content, uint64_t offset, std::string_view bytes) {
  if (content->size() < offset + bytes.size()) content->resize(offset + bytes.size());
  content->replace(offset, bytes.size(), bytes);
}

}  // namespace millrace::test
