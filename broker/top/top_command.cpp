#include "broker/top/top_command.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <future>
#include <memory>

#include "broker/cli/broker_client.h"
#include "broker/top/terminal.h"
#include "broker/top/view.h"
#include "common/os/signals.h"
#include "common/os/wakeup.h"

namespace millrace::top {
namespace {

using admin::BrokerReply;

constexpr Millis kMinInterval{250}, kMaxInterval{60000};
constexpr Millis kRequestTimeout{2000};  // and how long quitting can take, at the most

struct TopOptions {
  admin::AdminOptions broker;
  Millis interval{1000};
};

// One request at a time, in a thread of its own, so that keys are answered meanwhile.
class Request {
 public:
  explicit Request(const admin::AdminOptions& broker) : broker_(broker) {}

  bool pending() const { return reply_.valid(); }
  void start(std::string method, std::string target) {
    reply_ = std::async(std::launch::async, [this, method, target] {
      auto reply = ask_broker(broker_, method, target, "", kRequestTimeout);
      done_.signal();
      return reply;
    });
  }
  int fd() const { return done_.fd(); }
  Result<BrokerReply> take() {
    done_.drain();
    return reply_.get();
  }

 private:
  const admin::AdminOptions& broker_;
  Wakeup done_;
  std::future<Result<BrokerReply>> reply_;
};

std::string time_of_day() { return fmt::format("{:%H:%M:%S}", fmt::localtime(std::time(nullptr))); }

class Top {
 public:
  Top(const TopOptions& options, Terminal& terminal, SignalFd& signals)
      : options_(options),
        interval_(options.interval),
        terminal_(terminal),
        signals_(signals),
        status_(options_.broker),
        change_(options_.broker),
        view_(options.broker.http.authority()) {}

  void run() {
    while (!quit_) {
      const Mono now = read_clock();
      if (!status_.pending() && now >= next_) {
        status_.start("GET", "/v1/status");
        next_ = now + interval_;
      }
      terminal_.draw(view_.render(terminal_.size(), time_of_day()));
      wait(next_);
    }
  }

 private:
  void wait(Mono until) {
    pollfd items[] = {{terminal_.fd(), POLLIN, 0},
                      {signals_.fd(), POLLIN, 0},
                      {status_.fd(), POLLIN, 0},
                      {change_.fd(), POLLIN, 0}};
    const auto left = std::chrono::ceil<Millis>(until - read_clock());
    // While a request is under way it is its end that wakes.
    const long timeout = status_.pending() ? -1 : std::max<long>(left.count(), 0);
    poll(items, std::size(items), int(timeout));
    if (items[1].revents) on_signals();
    if (items[2].revents) on_status(status_.take());
    if (items[3].revents) on_change(change_.take());
    if (items[0].revents & (POLLHUP | POLLERR)) quit_ = true;
    if (items[0].revents & POLLIN)
      while (auto key = terminal_.read_key()) on_key(*key);
  }

  void on_signals() {
    while (const int signal = signals_.take())
      if (signal != SIGWINCH) quit_ = true;
  }

  void on_status(const Result<BrokerReply>& reply) {
    if (!reply) return view_.set_error(reply.error().message);
    try {
      view_.show(read_sample(reply->json, read_clock()));
    } catch (const nlohmann::json::exception&) {
      view_.set_error(not_a_broker(options_.broker, "/v1/status").message);
    }
  }

  void on_change(const Result<BrokerReply>& reply) {
    view_.set_message(reply ? changed_ : reply.error().message);
    next_ = read_clock();
  }

  void on_key(Key key) {
    switch (view_.press(key, terminal_.size())) {
      case Action::none:
        break;
      case Action::quit:
        quit_ = true;
        break;
      case Action::toggle_pause:
        toggle_pause(*view_.selected_queue());
        break;
      case Action::faster:
        set_interval(interval_ / 2);
        break;
      case Action::slower:
        set_interval(interval_ * 2);
        break;
    }
  }

  void toggle_pause(const QueueSample& queue) {
    if (change_.pending()) return;
    changed_ = queue.paused ? fmt::format("{} is resumed", queue.name)
                            : fmt::format("{} is paused: its jobs stay ready until p resumes it",
                                          queue.name);
    change_.start("POST",
                  fmt::format("/v1/queues/{}/{}", queue.name, queue.paused ? "resume" : "pause"));
  }

  void set_interval(Millis interval) {
    interval_ = std::clamp(interval, kMinInterval, kMaxInterval);
    next_ = std::min(next_, read_clock() + interval_);
    view_.set_message("refreshed every " + format_duration(interval_));
  }

  const TopOptions& options_;
  Millis interval_;
  Terminal& terminal_;
  SignalFd& signals_;
  Request status_, change_;
  View view_;
  Mono next_{};
  std::string changed_;
  bool quit_ = false;
};

Result<ExitCode> run_top(const TopOptions& options) {
  SignalFd signals({SIGTERM, SIGINT, SIGHUP, SIGWINCH});
  auto terminal = Terminal::open();
  if (!terminal) return terminal.error();
  auto top = std::make_unique<Top>(options, **terminal, signals);
  top->run();
  terminal->reset();  // first the terminal: a request that is under way may take a moment
  return ExitCode::ok;
}

}  // namespace

void add_top_command(Options& options) {
  // The action keeps what its flags fill.
  auto top = std::make_shared<TopOptions>();
  Command& command = options.command("top", "Watch a running broker in the terminal",
                                     [top] { return run_top(*top); });
  command.group("HTTP");
  add_http_flags(command, top->broker);
  command.group("Output");
  command.duration("--interval", top->interval, "time between two refreshes; + and - change it",
                   "1s", kMinInterval);
  command.example("millrace-broker top");
  command.example("millrace-broker top --http 10.0.0.1:5580 --interval 2s");
}

}  // namespace millrace::top
