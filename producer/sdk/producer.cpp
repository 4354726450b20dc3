#include "producer/sdk/producer.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <unordered_map>

#include "common/os/log.h"
#include "producer/runner/runner.h"

namespace millrace {
namespace {

using producer::Answer;
using producer::JobView;
using producer::Runner;
using producer::Submission;
using producer::Token;

constexpr Millis kForever = std::chrono::hours(24 * 365);

[[noreturn]] void refuse(const std::string& why) { throw std::invalid_argument(why); }

Receipt receipt_of(const Answer& answer) {
  Receipt receipt;
  switch (answer.kind) {
    case Answer::Kind::confirmed:
      receipt.state = Receipt::State::confirmed;
      break;
    case Answer::Kind::buffered:
      receipt.state = Receipt::State::buffered;
      break;
    case Answer::Kind::rejected:
    case Answer::Kind::away:
      receipt.state = Receipt::State::rejected;
      break;
    case Answer::Kind::spooled:  // it has no spool
    case Answer::Kind::unknown:
      break;
  }
  if (answer.accepted()) receipt.id = job_text(answer.broker, answer.job);
  if (answer.kind == Answer::Kind::away) receipt.error = "the producer has ended";
  if (answer.kind == Answer::Kind::rejected) receipt.error = answer.reason + ": " + answer.message;
  receipt.known = answer.known;
  receipt.retry_after = answer.retry_after;
  return receipt;
}

JobEnd end_of(const JobView& view) {
  JobEnd end;
  end.state = view.state == protocol::JobState::unknown ? "lost" : protocol::name_of(view.state);
  end.id = job_text(view.broker, view.job);
  end.attempts = view.attempts;
  if (view.has_result) end.result = view.result;
  end.error = view.error;
  return end;
}

JobEnd end_without(const Receipt& receipt) {
  JobEnd end;
  end.id = receipt.id;
  end.error = receipt.error;
  if (receipt.state == Receipt::State::rejected) end.state = "rejected";
  return end;
}

Submission submission_of(std::string queue, std::string payload, JobOptions options) {
  if (!protocol::valid_queue_name(queue)) refuse("'" + queue + "' is not a queue name");
  if (options.priority < 0 || options.priority > protocol::kMaxPriority)
    refuse("a priority is 0 to 9");
  if (options.max_attempts < 0 || options.max_attempts > 255) refuse("max_attempts is 1 to 255");
  if (options.delay < Millis(0) || options.ttl < Millis(0)) refuse("a duration is not negative");
  if (uint64_t(std::max(options.delay, options.ttl).count()) > protocol::kMaxDelayMs)
    refuse("a delay and a ttl are 100 years at most");
  if (options.key.size() > protocol::kMaxKey) refuse("a key has 64 bytes at most");
  Submission submission;
  submission.queue = std::move(queue);
  submission.payload = std::move(payload);
  submission.options.priority = uint8_t(options.priority);
  submission.options.max_attempts = uint8_t(options.max_attempts);
  submission.options.delay = options.delay;
  submission.options.ttl = options.ttl;
  submission.options.key = std::move(options.key);
  return submission;
}

producer::RunnerOptions options_of(const ProducerSettings& settings) {
  auto brokers = parse_endpoints(settings.broker, producer::kFrontendPort);
  if (!brokers) refuse(brokers.error().message);
  if (settings.max_pending == 0) refuse("max_pending is 1 at least");
  producer::RunnerOptions options;
  options.client.brokers = *std::move(brokers);
  options.client.curve.key = settings.curve_key;
  if (!settings.curve_broker.empty()) options.client.curve.brokers = {settings.curve_broker};
  options.client.connect_timeout =
      settings.connect_timeout > Millis(0) ? settings.connect_timeout : kForever;
  options.client.session.producer = Uuid::random();
  options.client.session.on_reject =
      settings.hold ? producer::OnReject::retry : producer::OnReject::report;
  options.max_jobs = settings.max_pending;
  options.max_bytes = settings.max_pending_bytes;
  return options;
}

}  // namespace

struct Producer::Inside {
  struct Waiting {
    OnReceipt on_receipt;
    OnEnd on_end;
    Receipt receipt;  // once there is one
  };

  std::unique_ptr<Runner> runner;
  std::thread::id own_thread;

  mutable std::mutex lock;  // of all that follows
  std::condition_variable changed;
  std::unordered_map<Token, Waiting> waiting;
  uint64_t last_token = 0;
  std::string error;

  // Before the submission: its events may come at once.
  Token expect(OnReceipt on_receipt, OnEnd on_end) {
    std::lock_guard guard(lock);
    const Token token{++last_token};
    waiting.emplace(token, Waiting{std::move(on_receipt), std::move(on_end), {}});
    return token;
  }

  bool submit(Submission& submission, OnReceipt on_receipt, OnEnd on_end, bool wait) {
    if (on_end) submission.options.report = protocol::Report::result;
    submission.token = expect(std::move(on_receipt), std::move(on_end));
    std::unique_lock guard(lock, std::defer_lock);
    while (!runner->submit(std::move(submission))) {
      if (runner->ended()) return give_up(submission.token, "the producer has ended"), true;
      if (!wait) return forget(submission.token), false;
      if (std::this_thread::get_id() == own_thread)
        return give_up(submission.token,
                       "the limit of pending jobs is reached, and a callback can't wait"),
               true;
      // An answer makes room; one that came before this is found by the next look.
      guard.lock();
      changed.wait_for(guard, Millis(10));
      guard.unlock();
    }
    return true;
  }

  void forget(Token token) {
    std::lock_guard guard(lock);
    waiting.erase(token);
  }

  void give_up(Token token, const char* why) {
    Receipt receipt;
    receipt.state = Receipt::State::rejected;
    receipt.error = why;
    receipt.retry_after = runner->ended() ? Millis(0) : Millis(10);
    tell(token, receipt);
  }

  // ---- events

  void take(Runner::Events events) {
    for (producer::Event& event : events) {
      if (auto* answer = std::get_if<Answer>(&event.what)) {
        tell(event.token, receipt_of(*answer));
      } else if (auto* view = std::get_if<JobView>(&event.what)) {
        end(event.token, end_of(*view));
      } else {
        end(event.token, std::nullopt);
      }
    }
    std::lock_guard guard(lock);
    changed.notify_all();
  }

  void tell(Token token, const Receipt& receipt) {
    std::unique_lock guard(lock);
    auto at = waiting.find(token);
    if (at == waiting.end()) return;
    OnReceipt on_receipt = std::move(at->second.on_receipt);
    at->second.receipt = receipt;
    const bool more = receipt.accepted() && at->second.on_end;
    guard.unlock();
    call(on_receipt, receipt);
    if (!more) end(token, std::nullopt);
  }

  void end(Token token, std::optional<JobEnd> ended) {
    std::unique_lock guard(lock);
    auto node = waiting.extract(token);
    guard.unlock();
    if (!node) return;
    Waiting& who = node.mapped();
    if (who.on_end) call(who.on_end, ended ? *ended : end_without(who.receipt));
  }

  template <typename Function, typename Argument>
  static void call(const Function& function, const Argument& argument) {
    try {
      if (function) function(argument);
    } catch (const std::exception& fault) {
      log_error("a producer's callback has thrown", {{"error", fault.what()}});
    }
  }

  bool wait(Millis timeout) {
    std::unique_lock guard(lock);
    return changed.wait_for(guard, std::min(timeout, kForever), [this] { return waiting.empty(); });
  }
};

Producer::Producer(ProducerSettings settings) : inside_(std::make_unique<Inside>()) {
  if (!settings.log_level.empty()) {
    auto level = parse_log_level(settings.log_level);
    if (!level) refuse(level.error().message);
    start_log(*level);
  }
  Runner::Callbacks callbacks;
  callbacks.events = [inside = inside_.get()](Runner::Events events) {
    inside->take(std::move(events));
  };
  callbacks.failed = [inside = inside_.get()](const Error& error) {
    std::lock_guard guard(inside->lock);
    inside->error = error.message;
  };
  auto runner = Runner::start(options_of(settings), std::move(callbacks));
  if (!runner) throw std::runtime_error(runner.error().message);
  inside_->runner = *std::move(runner);
  inside_->own_thread = inside_->runner->thread_id();
}

Producer::~Producer() { close(Millis(0)); }

void Producer::submit(std::string queue, std::string payload, JobOptions options,
                      OnReceipt on_receipt) {
  run(std::move(queue), std::move(payload), std::move(options), std::move(on_receipt), {});
}

bool Producer::try_submit(std::string queue, std::string payload, JobOptions options,
                          OnReceipt on_receipt) {
  auto submission = submission_of(std::move(queue), std::move(payload), std::move(options));
  return inside_->submit(submission, std::move(on_receipt), {}, false);
}

void Producer::run(std::string queue, std::string payload, JobOptions options, OnReceipt on_receipt,
                   OnEnd on_end) {
  auto submission = submission_of(std::move(queue), std::move(payload), std::move(options));
  inside_->submit(submission, std::move(on_receipt), std::move(on_end), true);
}

std::future<Receipt> Producer::submit(std::string queue, std::string payload, JobOptions options) {
  auto promise = std::make_shared<std::promise<Receipt>>();
  submit(std::move(queue), std::move(payload), std::move(options),
         [promise](const Receipt& receipt) { promise->set_value(receipt); });
  return promise->get_future();
}

std::future<JobEnd> Producer::run(std::string queue, std::string payload, JobOptions options) {
  auto promise = std::make_shared<std::promise<JobEnd>>();
  run(std::move(queue), std::move(payload), std::move(options), {},
      [promise](const JobEnd& end) { promise->set_value(end); });
  return promise->get_future();
}

Receipt Producer::submit_and_wait(std::string queue, std::string payload, JobOptions options) {
  return submit(std::move(queue), std::move(payload), std::move(options)).get();
}

JobEnd Producer::run_and_wait(std::string queue, std::string payload, JobOptions options) {
  return run(std::move(queue), std::move(payload), std::move(options)).get();
}

bool Producer::flush(std::chrono::milliseconds timeout) { return inside_->wait(timeout); }

bool Producer::close(std::chrono::milliseconds timeout) {
  const bool all = inside_->wait(timeout);
  inside_->runner->stop(Millis(0));
  return all;
}

bool Producer::connected() const { return inside_->runner->connected(); }
size_t Producer::pending() const { return inside_->runner->open_jobs(); }

std::string Producer::error() const {
  std::lock_guard guard(inside_->lock);
  return inside_->error;
}

}  // namespace millrace
