#include "producer/gateway/gateway.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/time.h"
#include "common/metrics/metrics.h"
#include "common/os/log.h"
#include "producer/gateway/answers.h"
#include "producer/gateway/openapi.h"

namespace millrace::producer {
namespace {

// After the last answer: for clients to close their side.
constexpr Millis kShutdownGrace{2000};

bool all_known(const std::vector<Runner::Broker>& brokers) {
  return std::all_of(brokers.begin(), brokers.end(),
                     [](const Runner::Broker& broker) { return broker.id.value != 0; });
}

bool submits(RouteKind kind) { return kind == RouteKind::submit || kind == RouteKind::batch; }

}  // namespace

// ---- start and end

Gateway::Gateway(GatewayOptions options) : options_(std::move(options)), access_(options_.tokens) {
  for (const std::string& token : options_.tokens) names_.emplace_back(token);
  if (names_.empty()) names_.emplace_back();
}

Result<std::unique_ptr<Gateway>> Gateway::start(GatewayOptions options) {
  std::unique_ptr<Gateway> gateway(new Gateway(std::move(options)));
  if (auto opened = gateway->open(); !opened) return opened.error();
  return gateway;
}

Result<void> Gateway::open() {
  Runner::Callbacks callbacks;
  callbacks.events = [this](Runner::Events events) {
    server_->post([this, events = std::move(events)]() mutable { take(std::move(events)); });
  };
  callbacks.failed = [this](const Error& error) {
    std::lock_guard guard(lock_);
    error_ = error;
    failed_.signal();
  };
  callbacks.link = [this](size_t index, bool connected) {
    const Endpoint& broker = options_.runner.client.brokers[index];
    if (connected) log_info("broker connected", {{"broker", broker.authority()}});
  };
  auto runner = Runner::start(options_.runner, std::move(callbacks));
  if (!runner) return runner.error();
  runner_ = *std::move(runner);

  http::ServerOptions http;
  http.address = options_.http;
  http.limits = options_.limits;
  http.gate = [this](const http::Request& head) { return admit(head); };
  auto server = http::Server::start(
      http, http::LateHandler([this](http::Request request, http::Responder reply) {
        handle(std::move(request), std::move(reply));
      }));
  if (!server) return server.error();
  server_ = *std::move(server);
  open_.count_down();
  return {};
}

// The runner first: it speaks to the server.
Gateway::~Gateway() {
  if (runner_) runner_->stop(Millis(0));
  if (server_) server_->stop();
}

void Gateway::drain(Millis timeout) {
  draining_ = true;
  runner_->stop(timeout, true);
  server_->drain(kShutdownGrace);
}

Error Gateway::error() {
  std::lock_guard guard(lock_);
  return error_;
}

// ---- requests

http::Admission Gateway::admit(const http::Request& head) {
  open_.wait();
  http::Admission admission;
  auto found = find_route(head);
  if (auto* refusal = std::get_if<http::Response>(&found)) {
    admission.refusal = std::move(*refusal);
  } else {
    const Route& route = std::get<Route>(found);
    admission.refusal = refuse(route, head);
    if (route.kind == RouteKind::batch) admission.body_bytes = options_.batch_body_bytes;
  }
  if (admission.refusal) metrics_.responded(admission.refusal->status);
  return admission;
}

// What can be said before the body is read.
std::optional<http::Response> Gateway::refuse(const Route& route, const http::Request& head) const {
  if (!route.open && !access_.admits(head))
    return http::unauthorized(
        "this gateway was started with --token-file; send 'Authorization: Bearer TOKEN'");
  if (!route.open && access_.from_elsewhere(head)) return http::forbidden();
  if (!submits(route.kind)) return std::nullopt;
  if (!protocol::valid_queue_name(route.subject))
    return http::problem(
        400, "a queue's name is 1 to 128 of A-Z a-z 0-9 . _ : - and is neither . nor ..");
  if (auto coding = content_coding(head); !coding.empty())
    return http::problem(
        415,
        fmt::format("Content-Encoding {} is not understood: a payload is stored as it is sent; "
                    "leave the header out, and name the coding in the payload",
                    coding));
  if (draining_) return draining();
  if (!runner_->takes()) return away(runner_->spool_room());
  return std::nullopt;
}

// Of one that was admitted.
const JobNames& Gateway::names_of(const http::Request& request) const {
  return names_.at(*access_.token_of(request));
}

void Gateway::handle(http::Request request, http::Responder reply) {
  auto found = find_route(request);
  const Route& route = std::get<Route>(found);  // admitted
  switch (route.kind) {
    case RouteKind::submit:
      return submit(route, std::move(request), std::move(reply));
    case RouteKind::batch:
      return submit_batch(route, std::move(request), std::move(reply));
    case RouteKind::job:
      return look_up(route, request, std::move(reply));
    default:
      return respond(reply, show(route.kind));
  }
}

http::Response Gateway::no_room() const {
  if (draining_) return draining();
  return back_pressure(
      fmt::format("{} submissions wait for the broker's answer, which is the limit",
                  runner_->open_jobs()),
      Millis(1000));
}

void Gateway::submit(const Route& route, http::Request request, http::Responder reply) {
  auto job = read_job_request(request, options_.max_wait);
  if (!job) return respond(reply, http::problem(400, job.error().message));
  Pending pending;
  pending.raw = job->raw;
  pending.waits = job->wait > Millis(0);
  pending.names = &names_of(request);
  job->options.key = pending.names->scoped_key(job->options.key);
  pending.since = read_clock();
  Submission submission{next_token(), route.subject, std::move(job->options),
                        std::move(request.body)};
  submission.answer_by = pending.since + options_.answer_timeout;
  submission.end_by = pending.since + job->wait;
  pending.reply = std::move(reply);
  keep(submission.token, std::move(pending));
  // All requests that have arrived by now are one batch, and wake the runner once.
  if (outbox_.empty()) server_->post([this] { flush(); });
  outbox_.push_back(std::move(submission));
}

void Gateway::flush() {
  std::vector<Submission> submissions = std::exchange(outbox_, {});
  outbox_.reserve(submissions.size());
  if (runner_->submit(std::move(submissions))) return;
  for (Submission& submission : submissions) {
    if (runner_->submit(std::move(submission))) continue;
    auto refused = pending_.extract(submission.token);
    if (refused.empty()) continue;  // its client has left
    respond(*refused.mapped().reply, no_room());
  }
}

void Gateway::submit_batch(const Route& route, http::Request request, http::Responder reply) {
  auto job = read_batch_request(request);
  if (!job) return respond(reply, http::problem(400, job.error().message));
  auto lines = split_batch(request.body);
  if (!lines) return respond(reply, http::problem(400, lines.error().message));
  const Mono now = read_clock();
  auto batch = std::make_shared<Batch>(std::move(reply), names_of(request));
  batch->lines.resize(lines->size());
  std::vector<Submission> submissions;
  std::vector<size_t> numbers;
  for (size_t i = 0; i < lines->size(); ++i) {
    const BatchLine& line = (*lines)[i];
    if (!line.fault.empty()) {
      batch->lines[i] = fault_line(i + 1, line.fault);
      continue;
    }
    Submission submission{next_token(), route.subject, job->options, std::string(line.payload)};
    if (!job->options.key.empty())
      submission.options.key =
          batch->names.scoped_key(fmt::format("{}/{}", job->options.key, i + 1));
    submission.answer_by = now + options_.answer_timeout;
    submissions.push_back(std::move(submission));
    numbers.push_back(i + 1);
  }
  batch->open = submissions.size();
  std::vector<Token> tokens;
  for (const Submission& submission : submissions) tokens.push_back(submission.token);
  if (!submissions.empty() && !runner_->submit(std::move(submissions)))
    return respond(batch->reply, no_room());
  for (size_t i = 0; i < tokens.size(); ++i) {
    Pending pending;
    pending.batch = batch;
    pending.line = numbers[i];
    pending.since = now;
    pending_.emplace(tokens[i], std::move(pending));
  }
  if (tokens.empty()) finish(*batch);
}

void Gateway::look_up(const Route& route, const http::Request& request, http::Responder reply) {
  BrokerId broker;
  JobId job;
  const JobNames& names = names_of(request);
  if (!parse_job_text(route.subject, &broker, &job))
    return respond(reply, http::problem(400, "a job ID looks like 3f9a1c07-42"));
  if (!names.parse(route.subject, &broker, &job))
    return respond(reply, http::problem(404, "no job of that id was submitted with this token"));
  const auto brokers = runner_->brokers();
  auto at = std::find_if(brokers.begin(), brokers.end(),
                         [broker](const Runner::Broker& b) { return b.id == broker; });
  if (at == brokers.end() ? !all_known(brokers) : !at->connected) return respond(reply, away());
  if (at == brokers.end())
    return respond(reply, http::problem(404, "no broker of this gateway gave a job such an id"));
  Pending pending;
  pending.raw = wants_bytes(request);
  pending.names = &names;
  pending.since = read_clock();
  const LookUp look_up{next_token(), broker, job, pending.since + options_.answer_timeout};
  if (!runner_->look_up(look_up)) return respond(reply, no_room());
  pending.asks = true;
  pending.broker = broker;
  pending.reply = std::move(reply);
  keep(look_up.token, std::move(pending));
}

// Of one request: when its client leaves, nothing is held for it any more.
void Gateway::keep(Token token, Pending pending) {
  pending.reply->on_departure([this, token] {
    runner_->forget(token);
    // Not within the call: it comes from the response that is being given up.
    server_->post([this, token] { pending_.erase(token); });
  });
  pending_.emplace(token, std::move(pending));
}

http::Response Gateway::show(RouteKind kind) const {
  switch (kind) {
    case RouteKind::metrics:
      return http::ok(kMetricsType, metrics_.text({runner_->connections(), draining_.load(),
                                                   server_->connections(), pending_.size(),
                                                   runner_->open_jobs(), runner_->spool()}));
    case RouteKind::openapi:
      return http::ok("application/json", kOpenApi);
    case RouteKind::readyz:
      if (draining_) return unavailable("about:blank", "this gateway is stopping");
      if (!runner_->takes()) return away(runner_->spool_room());
      return http::ok("text/plain", "ready\n");
    default:
      return http::ok("text/plain", "ok\n");
  }
}

// ---- events

void Gateway::take(Runner::Events events) {
  for (Event& event : events) take(std::move(event));
}

void Gateway::take(Event event) {
  auto at = pending_.find(event.token);
  if (at == pending_.end()) return;
  // Out of the map before its response, which may bring the connection's next request.
  if (auto* answer = std::get_if<Answer>(&event.what);
      answer && at->second.waits && answer->accepted()) {
    metrics_.answered(*answer, read_clock() - at->second.since);
    at->second.answer = std::make_unique<Answer>(std::move(*answer));
    return;
  }
  auto node = pending_.extract(at);
  finish(node.mapped(), event);
}

void Gateway::finish(Pending& pending, Event& event) {
  if (auto* answer = std::get_if<Answer>(&event.what)) {
    if (pending.asks)
      return respond(*pending.reply, answer->kind == Answer::Kind::away ? away() : no_answer());
    metrics_.answered(*answer, read_clock() - pending.since);
    if (pending.batch) return take_line(pending, *answer);
    respond(*pending.reply, answer_response(*answer, *pending.names));
  } else if (auto* view = std::get_if<JobView>(&event.what)) {
    if (pending.asks) view->broker = pending.broker;
    respond(*pending.reply, pending.asks ? view_response(*view, *pending.names, pending.raw)
                                         : end_response(*view, *pending.names, pending.raw));
  } else {
    respond(*pending.reply, answer_response(*pending.answer, *pending.names));
  }
}

void Gateway::take_line(Pending& pending, const Answer& answer) {
  Batch& batch = *pending.batch;
  batch.lines[pending.line - 1] = answer_line(pending.line, answer, batch.names);
  if (--batch.open == 0) finish(batch);
}

void Gateway::finish(Batch& batch) {
  std::string body;
  for (const std::string& line : batch.lines) body += line + "\n";
  respond(batch.reply, http::ok("application/x-ndjson", std::move(body)));
}

void Gateway::respond(http::Responder& reply, http::Response response) {
  metrics_.responded(response.status);
  reply(std::move(response));
}

}  // namespace millrace::producer
