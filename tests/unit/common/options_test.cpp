#include "common/cli/options.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "common/cli/config_file.h"
#include "tests/catch.h"

using namespace millrace;

namespace {

// A program with every kind of option, an environment and a file of its own.
class Program {
 public:
  Millis heartbeat{};
  MillisRange backoff;
  int64_t max_job_size = 0;
  Endpoint frontend;
  std::vector<Endpoint> brokers;
  std::optional<int> rate;
  std::optional<Millis> ttl;
  Texts queues;
  bool all = false;
  bool json = true;  // a toggle is false unless given
  std::string data;
  std::optional<std::string> payload;
  std::map<std::string, std::string> environment;

  Program() {
    auto nothing = [] { return ExitCode::ok; };
    Command& serve = options_.command("serve", "run the thing", nothing);
    serve.group("Connection");
    serve.duration("--heartbeat", heartbeat, "time between heartbeats", "1s");
    serve.duration_range("--backoff", backoff, "waits before a retry", "500ms..5m");
    serve.group("Limits");
    serve.size("--max-job-size", max_job_size, "largest payload", "1MiB");
    serve.group("Connection");
    serve.endpoint("--frontend", frontend, "where producers connect", "tcp://127.0.0.1:5570");
    serve.text("--data", data, "DIR", "where the journal is", "./millrace-data");
    serve.example(
        "millrace-test serve --data 'a dir' --heartbeat 2s --max-job-size 2MiB --log-level debug");
    Command& submit = options_.command("submit", "send jobs", nothing);
    submit.endpoints("--broker", brokers, 5570, "brokers to use", "127.0.0.1");
    submit.texts("--queue", queues, "NAME", "queue, repeatable");
    submit.integer("--rate", rate, "jobs per second", "", 1, 1'000'000);
    submit.duration("--ttl", ttl, "time to live");
    submit.toggle("--json", json, "report as JSON");
    submit.argument("PAYLOAD", payload, "bytes of the job");
    submit.require("--queue");
    Command& edit = options_.command("edit", "change the thing", nothing);
    edit.only_from_command_line();
    edit.group("Limits");
    edit.toggle("--all", all, "every thing there is", "-a");
  }
  ~Program() {
    if (!file_.empty()) std::remove(file_.c_str());
  }

  void write_file(const std::string& text) {
    if (file_.empty()) {
      char path[] = "/tmp/millrace-options-XXXXXX";
      int fd = mkstemp(path);
      REQUIRE(fd >= 0);
      close(fd);
      file_ = path;
    }
    std::ofstream(file_) << text;
  }
  const std::string& file() const { return file_; }

  Result<Options::Request> parse(Texts arguments) {
    if (!file_.empty()) arguments.insert(arguments.end(), {"--config", file_});
    return options_.parse(arguments, [this](const char* name) -> const char* {
      auto found = environment.find(name);
      return found == environment.end() ? nullptr : found->second.c_str();
    });
  }

  // The message of the error, after checking its code.
  std::string fails(ExitCode code, Texts arguments) {
    auto request = parse(std::move(arguments));
    REQUIRE_FALSE(request.ok());
    CHECK(request.error().code == code);
    return request.error().message;
  }

 private:
  std::string file_;
  Options options_{"millrace-test", "a program for tests"};
};

bool contains(const std::string& text, const std::string& part) {
  INFO("looking for <" << part << "> in <" << text << ">");
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("defaults hold where nothing is given", "[options]") {
  Program program;
  auto request = program.parse({"serve"});
  REQUIRE(request.ok());
  CHECK(request->command->name() == "serve");
  CHECK(program.heartbeat == Millis(1000));
  CHECK(program.backoff == MillisRange{Millis(500), Millis(300'000)});
  CHECK(program.max_job_size == 1 << 20);
  CHECK(program.frontend.uri() == "tcp://127.0.0.1:5570");
  CHECK(program.brokers == std::vector<Endpoint>{{"127.0.0.1", 5570}});
  CHECK_FALSE(program.rate.has_value());
  CHECK_FALSE(program.ttl.has_value());
  CHECK_FALSE(program.json);
}

TEST_CASE("flags are read in both spellings", "[options]") {
  Program program;
  REQUIRE(program
              .parse({"submit", "--queue=a", "--queue", "b", "--rate", "5000", "--ttl=5s",
                      "--broker", "x,y:9", "--json", "hello"})
              .ok());
  CHECK(program.queues == Texts{"a", "b"});
  CHECK(program.rate == 5000);
  CHECK(program.ttl == Millis(5000));
  CHECK(program.brokers == std::vector<Endpoint>{{"x", 5570}, {"y", 9}});
  CHECK(program.json);
  CHECK(program.payload == "hello");
}

TEST_CASE("flag beats environment beats file beats default", "[options]") {
  Program program;
  REQUIRE(program.parse({"serve"}).ok());
  CHECK(program.heartbeat == Millis(1000));

  program.write_file("heartbeat = '2s'\n");
  REQUIRE(program.parse({"serve"}).ok());
  CHECK(program.heartbeat == Millis(2000));

  program.environment["MILLRACE_HEARTBEAT"] = "3s";
  REQUIRE(program.parse({"serve"}).ok());
  CHECK(program.heartbeat == Millis(3000));

  REQUIRE(program.parse({"serve", "--heartbeat", "4s"}).ok());
  CHECK(program.heartbeat == Millis(4000));
}

TEST_CASE("an empty variable counts as unset", "[options]") {
  Program program;
  program.environment["MILLRACE_HEARTBEAT"] = "";
  REQUIRE(program.parse({"serve"}).ok());
  CHECK(program.heartbeat == Millis(1000));
}

TEST_CASE("a file has values of every type, and a command's table is stronger", "[options]") {
  Program program;
  program.write_file(
      "# what all commands share\n"
      "rate = 10\n"
      "broker = ['a', 'b:7']\n"
      "[submit]\n"
      "queue = ['x', 'y']\n"
      "rate = 20\n"
      "json = true\n"
      "[serve]\n"
      "heartbeat = '9s'\n");
  REQUIRE(program.parse({"submit"}).ok());
  CHECK(program.rate == 20);
  CHECK(program.queues == Texts{"x", "y"});
  CHECK(program.brokers == std::vector<Endpoint>{{"a", 5570}, {"b", 7}});
  CHECK(program.json);
  CHECK(program.heartbeat == Millis(1000));
}

TEST_CASE("the file can be named by the environment", "[options]") {
  Program named, other;
  named.write_file("[serve]\nheartbeat = '7s'\n");
  other.environment["MILLRACE_CONFIG"] = named.file();
  REQUIRE(other.parse({"serve"}).ok());
  CHECK(other.heartbeat == Millis(7000));
}

TEST_CASE("a repeatable flag has one value a line in the environment", "[options]") {
  Program program;
  program.environment["MILLRACE_QUEUE"] = "a=exec:cat, sort\nb=echo\n";
  REQUIRE(program.parse({"submit"}).ok());
  CHECK(program.queues == Texts{"a=exec:cat, sort", "b=echo"});
}

TEST_CASE("a toggle can be switched off by the flag itself", "[options]") {
  Program program;
  program.environment["MILLRACE_JSON"] = "true";
  REQUIRE(program.parse({"submit", "--queue", "q"}).ok());
  CHECK(program.json);
  REQUIRE(program.parse({"submit", "--queue", "q", "--json=false"}).ok());
  CHECK_FALSE(program.json);
}

TEST_CASE("the last of a repeated flag counts", "[options]") {
  Program program;
  REQUIRE(program.parse({"serve", "--heartbeat", "2s", "--heartbeat", "3s"}).ok());
  CHECK(program.heartbeat == Millis(3000));
}

TEST_CASE("payloads are taken as they stand", "[options]") {
  for (const char* text : {"[1,2]", "{}", "{\"a\": [1]}", "\"quoted\"", "", "-", "a,b", "serve",
                           "submit", "%%", "-5", "++"}) {
    CAPTURE(text);
    Program program;
    REQUIRE(program.parse({"submit", "--queue", "q", text}).ok());
    CHECK(program.payload == text);
    if (*text == '\0') continue;
    REQUIRE(program.parse({"submit", "--queue", text}).ok());
    CHECK(program.queues == Texts{text});
  }
}

TEST_CASE("a flag's value is not empty", "[options]") {
  Program program;
  auto refused = program.parse({"submit", "--queue", ""});
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ExitCode::usage);
  CHECK(refused.error().message.find("--queue") != std::string::npos);
}

TEST_CASE("after -- even a dash begins a payload", "[options]") {
  Program program;
  REQUIRE(program.parse({"submit", "--queue", "q", "--", "--rate"}).ok());
  CHECK(program.payload == "--rate");
}

TEST_CASE("an unknown flag is answered with the nearest one", "[options]") {
  Program program;
  auto message = program.fails(ExitCode::usage, {"submit", "--queue", "q", "--rat=5"});
  CHECK(contains(message, "unknown flag --rat (did you mean --rate?)"));
  CHECK(contains(message, "'millrace-test submit --help'"));
  CHECK(program.fails(ExitCode::usage, {"serve", "--frobnicate", "5"}).find("did you mean") ==
        std::string::npos);
  CHECK(contains(program.fails(ExitCode::usage, {"--versoin"}), "did you mean --version?"));
}

TEST_CASE("a flag of another command is unknown", "[options]") {
  Program program;
  CHECK(contains(program.fails(ExitCode::usage, {"serve", "--rate", "5"}), "unknown flag --rate"));
}

TEST_CASE("a command is needed and has to exist", "[options]") {
  Program program;
  CHECK(contains(program.fails(ExitCode::usage, {}), "a command is required: serve, submit"));
  CHECK(contains(program.fails(ExitCode::usage, {"serv", "--data", "x"}),
                 "unknown command 'serv' (did you mean serve?)"));
}

TEST_CASE("one argument too many is an error", "[options]") {
  Program program;
  CHECK(contains(program.fails(ExitCode::usage, {"submit", "--queue", "q", "one", "two"}),
                 "unexpected argument 'two'"));
}

TEST_CASE("a flag without its value is an error that names it", "[options]") {
  Program program;
  CHECK(contains(program.fails(ExitCode::usage, {"serve", "--heartbeat"}), "--heartbeat"));
}

TEST_CASE("a required flag may come from anywhere, but must come", "[options]") {
  Program program;
  CHECK(contains(program.fails(ExitCode::usage, {"submit"}), "--queue is required"));
  program.environment["MILLRACE_QUEUE"] = "q";
  CHECK(program.parse({"submit"}).ok());
}

TEST_CASE("a bad value is reported with flag, value, origin and form", "[options]") {
  Program program;
  auto message = program.fails(ExitCode::usage, {"serve", "--heartbeat", "12x"});
  CHECK(contains(message, "--heartbeat"));
  CHECK(contains(message, "command line"));
  CHECK(contains(message, "'12x'"));
  CHECK(contains(message, "250ms"));

  program.environment["MILLRACE_HEARTBEAT"] = "soon";
  message = program.fails(ExitCode::usage, {"serve"});
  CHECK(contains(message, "--heartbeat"));
  CHECK(contains(message, "MILLRACE_HEARTBEAT"));
  CHECK(contains(message, "'soon'"));

  program.environment.clear();
  program.write_file("\n[serve]\nheartbeat = 5\n");
  message = program.fails(ExitCode::usage, {"serve"});
  CHECK(contains(message, "--heartbeat"));
  CHECK(contains(message, program.file() + ":3"));
  CHECK(contains(message, "'5'"));
}

TEST_CASE("numbers outside of their range name the range", "[options]") {
  Program program;
  CHECK(contains(program.fails(ExitCode::usage, {"submit", "--queue", "q", "--rate", "0"}),
                 "from 1 to 1000000"));
}

TEST_CASE("a list in the file is refused where one value is wanted", "[options]") {
  Program program;
  program.write_file("[serve]\nheartbeat = ['1s', '2s']\n");
  CHECK(contains(program.fails(ExitCode::usage, {"serve"}), "one value"));
}

TEST_CASE("unknown keys and tables name file, line and key", "[options]") {
  Program program;
  program.write_file("heartbeat = '1s'\nheartbaet = '2s'\n");
  auto message = program.fails(ExitCode::config, {"serve"});
  CHECK(contains(message, program.file() + ":2: unknown key 'heartbaet'"));
  CHECK(contains(message, "did you mean heartbeat?"));

  program.write_file("[serve]\nrate = 5\n");
  CHECK(contains(program.fails(ExitCode::config, {"serve"}), ":2: unknown key 'rate'"));

  program.write_file("[server]\nheartbeat = '1s'\n");
  CHECK(contains(program.fails(ExitCode::config, {"serve"}), ":1: unknown table 'server'"));

  program.write_file("config = 'other.toml'\n");
  CHECK(contains(program.fails(ExitCode::config, {"serve"}), ":1: unknown key 'config'"));
}

TEST_CASE("another command's table is checked too", "[options]") {
  Program program;
  program.write_file("[submit]\nquue = 'x'\n");
  CHECK(contains(program.fails(ExitCode::config, {"serve"}), ":2: unknown key 'quue'"));
}

TEST_CASE("a file that is missing, a directory or not TOML is an error", "[options]") {
  Program program;
  CHECK(contains(program.fails(ExitCode::config, {"serve", "--config", "/nowhere/x.toml"}),
                 "/nowhere/x.toml: No such file"));
  CHECK(contains(program.fails(ExitCode::config, {"serve", "--config", "/tmp"}),
                 "/tmp: Is a directory"));
  program.write_file("heartbeat = '1s'\nthis is not TOML\n");
  CHECK(
      contains(program.fails(ExitCode::config, {"serve"}), program.file() + ":2: not valid TOML"));
  // The parser itself would end the program here.
  program.write_file("[\nheartbeat = '2s'\n");
  CHECK(contains(program.fails(ExitCode::config, {"serve"}), program.file() + ": not valid TOML"));
  program.write_file("when = 2026-01-02\n");
  CHECK(contains(program.fails(ExitCode::config, {"serve"}), ":1: the value of 'when'"));
}

TEST_CASE("help shows flags, forms and defaults; version names the program", "[options]") {
  Program program;
  auto help = program.parse({"serve", "--help"});
  REQUIRE(help.ok());
  CHECK(help->command == nullptr);
  for (const char* part :
       {"--heartbeat", "DURATION", "1s", "--config", "--log-level", "MILLRACE_"}) {
    CHECK(contains(help->text, part));
  }
  auto overview = program.parse({"--help"});
  REQUIRE(overview.ok());
  CHECK(contains(overview->text, "submit"));
  for (const Texts& arguments :
       {Texts{"--version"}, Texts{"serve", "--version"}, Texts{"-V"}, Texts{"submit", "-V"}}) {
    auto version = program.parse(arguments);
    REQUIRE(version.ok());
    CHECK(version->text.starts_with("millrace-test "));
  }
}

TEST_CASE("the word help is the flag --help, for the program or for a command", "[options]") {
  Program program;
  CHECK(program.parse({"help"})->text == program.parse({"--help"})->text);
  CHECK(program.parse({"help", "serve"})->text == program.parse({"serve", "--help"})->text);
  CHECK(contains(program.fails(ExitCode::usage, {"help", "srve"}), "did you mean serve?"));
}

TEST_CASE("help is wrapped to the width of the terminal", "[options]") {
  for (auto [columns, width] : {std::pair{"60", 60u},
                                {"72", 72u},
                                {"100", 100u},
                                {"20", 60u},
                                {"900", 120u},
                                {"wide", 0u},
                                {"", 0u}}) {
    CAPTURE(columns);
    Program program;
    program.environment["COLUMNS"] = columns;
    for (const char* command : {"serve", "submit", "edit"}) {
      auto help = program.parse({command, "--help"});
      REQUIRE(help.ok());
      std::istringstream lines(help->text);
      size_t longest = 0;
      for (std::string line; std::getline(lines, line);) longest = std::max(longest, line.size());
      if (width == 0) continue;  // the terminal's, if there is one
      CHECK(longest <= width);
      CHECK(longest + 20 > width);
    }
  }
}

TEST_CASE("help shows options by group, the general ones last", "[options]") {
  Program program;
  auto help = program.parse({"serve", "--help"});
  REQUIRE(help.ok());
  const std::string& text = help->text;
  Texts parts{"\nConnection:\n  --heartbeat DURATION",
              "\n  --frontend HOST:PORT",
              "\nLimits:\n",
              "\n  --max-job-size SIZE",
              "\nGeneral:\n",
              "\n  --config FILE",
              "\n  -V, --version",
              "\nExamples:\n"};
  size_t at = 0;
  for (const std::string& part : parts) {
    CAPTURE(text, part);
    const size_t found = text.find(part, at);
    REQUIRE(found != std::string::npos);
    at = found;
  }
  CHECK(text.find("\nConnection:\n", text.find("\nConnection:\n") + 1) == std::string::npos);
  auto submit = program.parse({"submit", "--help"});
  REQUIRE(submit.ok());
  CHECK(contains(submit->text, "Usage: millrace-test submit [OPTIONS] [PAYLOAD]\n"));
  CHECK(contains(submit->text, "queue, repeatable (required)"));
  CHECK(contains(submit->text, "(default: 127.0.0.1)"));
}

TEST_CASE("a long example goes on behind a backslash, between its words", "[options]") {
  Program program;
  program.environment["COLUMNS"] = "60";
  auto help = program.parse({"serve", "--help"});
  REQUIRE(help.ok());
  CHECK(contains(help->text, "  millrace-test serve --data 'a dir' --heartbeat 2s \\\n    --max"));
}

TEST_CASE("the footer of help names options that it is true for", "[options]") {
  auto words = [](std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
  };
  Program program;
  auto serve = program.parse({"serve", "--help"});
  REQUIRE(serve.ok());
  CHECK(contains(words(serve->text), "(--heartbeat), in the environment (MILLRACE_HEARTBEAT)"));
  CHECK(contains(words(serve->text), "(key: heartbeat)"));
  CHECK(serve->text.find("Only on the command line") == std::string::npos);
  auto submit = program.parse({"submit", "--help"});
  REQUIRE(submit.ok());
  CHECK(contains(words(submit->text), "one value per line in the environment"));
  auto edit = program.parse({"edit", "--help"});
  REQUIRE(edit.ok());
  CHECK(contains(words(edit->text), "(--log-level), in the environment (MILLRACE_LOG_LEVEL)"));
  CHECK(contains(edit->text, "\nOnly on the command line: --all.\n"));
  CHECK(contains(edit->text, "  -a, --all "));
}

TEST_CASE("run() gives the exit code of the command, or of what went wrong", "[options]") {
  auto run = [](Result<ExitCode> outcome, Texts words) {
    Options options("millrace-test", "a program for tests");
    options.command("go", "do it", [&] { return outcome; });
    std::vector<char*> argv{const_cast<char*>("millrace-test")};
    for (std::string& word : words) argv.push_back(word.data());
    return options.run(static_cast<int>(argv.size()), argv.data());
  };
  CHECK(run(ExitCode::ok, {"go"}) == 0);
  CHECK(run(ExitCode::failed, {"go"}) == 1);
  CHECK(run(Error{ExitCode::unavailable, "no broker"}, {"go"}) == 69);
  CHECK(run(ExitCode::ok, {"go", "--nonsense"}) == 64);
  CHECK(run(ExitCode::ok, {"--version"}) == 0);
}
