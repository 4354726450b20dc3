// Replays tests/golden/core/*.txt: each line that begins with '>' is an event, the lines below it
// are what the core said: `disk` for records, `name <-` for messages (`now` if it waits for
// nothing). Run with MILLRACE_REWRITE=1 to write the files anew, and read the difference before you
// commit it.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/golden/words.h"
#include "tests/unit/core/harness.h"

using namespace millrace;
using namespace millrace::test;

namespace {

// Words of an event: `name VERB key=value …`; leases are job/epoch, lists have commas.
class Transcript {
 public:
  std::string play(std::istream& in) {
    std::string line;
    while (std::getline(in, line)) {
      if (line.rfind(">", 0) == 0) {
        out_ << line << '\n';
        event(line.substr(1));
      } else if (line.empty() || line[0] == '#') {
        out_ << line << '\n';
      }
    }
    return out_.str();
  }

 private:
  struct Peer {
    Port port;
    uint64_t session;
    Uuid id;
    uint64_t batch = 0;
  };

  void event(const std::string& text) {
    Words words(text);
    if (words.name == "restart") return restart();
    if (words.name == "dispatch") return core_->dispatch(now_, result_), show();
    if (words.name == "pass") return pass(std::stol(words.verb));
    if (words.name == "drain") return core_->drain();
    receive(words);
  }

  void receive(const Words& words) {
    bool is_worker = words.name[0] == 'w';
    auto [found, is_new] = peers_.try_emplace(words.name);
    Peer& peer = found->second;
    if (is_new)
      peer = {is_worker ? Port::backend : Port::frontend, 0, uuid(uint8_t(peers_.size()))};
    if (words.verb == "HELLO" || words.verb == "REGISTER")
      peer.session = ++sessions_, names_[peer.session] = words.name;
    auto message = words.message(peer.id, &peer.batch);
    auto frame = protocol::encode({peer.session}, message);
    auto decoded = protocol::decode_from_client(frame);
    REQUIRE(decoded.index() == 0);
    core_->receive(now_, {peer.port, peer.session}, std::get<0>(decoded), result_);
    show();
  }

  void pass(long ms) {
    for (long left = ms; left > 0; left -= 250) {
      now_.mono += Millis(std::min(left, 250l));
      now_.wall += Millis(std::min(left, 250l));
      core_->tick(now_, result_);
      show();
    }
  }

  void restart() {
    core_ = std::make_unique<Core>(Settings{}, 42);
    for (const std::string& bytes : journal_)
      REQUIRE(records::decode_all(bytes, [&](const Record& r, size_t) {
                REQUIRE(!core_->replay(r, now_));
              }).ok());
    core_->begin(now_, {7}, result_);
    show();
  }

  void show() {
    for (auto& [record, owner] : result_.records) {
      records::Chunk chunk;
      chunk.append(record, owner);
      std::string bytes;
      for (std::string_view part : chunk.parts()) bytes += part;
      journal_.push_back(bytes);
      out_ << "  disk " << describe(record) << '\n';
    }
    for (const auto& send : result_.sends) {
      if (send.at_once && std::holds_alternative<protocol::Heartbeat>(send.message)) continue;
      out_ << "  " << names_[send.session.value] << " <- " << describe(send.message)
           << (send.at_once ? "  now" : "") << '\n';
    }
    result_.clear();
  }

  Now now_{Mono(std::chrono::hours(1)), wall_from_int(1'000'000)};
  std::unique_ptr<Core> core_;
  Output result_;
  std::map<std::string, Peer> peers_;
  std::map<uint64_t, std::string> names_;
  uint64_t sessions_ = 0;
  std::vector<std::string> journal_;
  std::ostringstream out_;
};

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("the core says what the transcripts say", "[golden]") {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MILLRACE_GOLDEN "/core")) {
    INFO(entry.path().string());
    std::string expected = read(entry.path());
    std::istringstream in(expected);
    std::string actual = Transcript().play(in);
    if (std::getenv("MILLRACE_REWRITE"))
      std::ofstream(entry.path()) << actual;
    else
      CHECK(actual == expected);
    ++files;
  }
  CHECK(files >= 8);
}
