"""What --help shows, of every command of every program."""
import os
import re
import subprocess
import unittest

import harness

PROGRAMS = ("millrace-broker", "millrace-worker", "millrace-producer")
WIDTHS = (60, 80, 100)
ENTRY = re.compile(r"  (-[0-9a-zA-Z], )?(--[a-z][a-z-]*)\b")


def help_text(program, command=None, width=80):
    """--help of a command, or of the program."""
    arguments = [command] if command else []
    variables = {key: value for key, value in os.environ.items() if not key.startswith("MILLRACE_")}
    shown = subprocess.run([harness.BIN / program, *arguments, "--help"], capture_output=True, text=True,
                           env={**variables, "COLUMNS": str(width)}, timeout=harness.DEADLINE, check=False)
    assert shown.returncode == 0 and not shown.stderr, shown
    return shown.stdout


def commands_of(program):
    listed = help_text(program).split("\nCommands:\n")[1].split("\n\n")[0]
    return re.findall(r"^  ([a-z]+)\b", listed, re.MULTILINE)


def sections_of(text):
    """The paragraphs that have a heading: {heading: lines}."""
    sections = {}
    for paragraph in text.split("\n\n"):
        heading, *lines = paragraph.rstrip("\n").split("\n")
        if lines and heading.endswith(":") and not heading.startswith(" "):
            sections[heading[:-1]] = lines
    return sections


def options_of(text):
    """{option: (group, description)}"""
    options = {}
    for group, lines in sections_of(text).items():
        if group in ("Arguments", "Examples"):
            continue
        name = None
        for line in lines:
            entry = ENTRY.match(line)
            if entry:
                name = entry.group(2)
                options[name] = (group, line[28:].strip() if line[26:28] == "  " else "")
            elif line.startswith(" " * 28):
                group_of, description = options[name]
                options[name] = (group_of, f"{description} {line.strip()}".strip())
            else:
                raise AssertionError(f"neither an option nor its description: {line!r}")
    return options


class HelpTest(harness.Case):
    def every_command(self):
        """[(program, command)]"""
        found = [(program, command) for program in PROGRAMS for command in commands_of(program)]
        self.assertGreaterEqual(len(found), 16)
        return found

    def test_no_line_is_longer_than_the_terminal(self):
        for program, command in self.every_command():
            with self.subTest(program=program, command=command):
                for width in WIDTHS:
                    for line in help_text(program, command, width).split("\n"):
                        self.assertLessEqual(len(line), width, line)
        for program in PROGRAMS:
            for line in help_text(program, None, 60).split("\n"):
                self.assertLessEqual(len(line), 60, line)

    def test_every_option_has_a_group_and_a_description(self):
        for program, command in self.every_command():
            with self.subTest(program=program, command=command):
                options = options_of(help_text(program, command))
                self.assertIn("--log-level", options)
                for option, (group, description) in options.items():
                    general = option in ("--config", "--log-level", "--help", "--version")
                    self.assertEqual(group == "General", general, f"{option} stands under {group}")
                    self.assertTrue(description, option)
                    self.assertFalse(description.endswith("."), f"{option}: {description}")

    def test_every_command_ends_with_examples_of_its_own_options(self):
        for program, command in self.every_command():
            with self.subTest(program=program, command=command):
                text = help_text(program, command)
                options = options_of(text)
                examples = re.split(r"\n  (?! )", "\n" + "\n".join(sections_of(text)["Examples"]))[1:]
                own = [example.split(f"{program} {command}", 1)[1] for example in examples
                       if f"{program} {command}" in example]
                self.assertTrue(own)
                for example in own:
                    for used in re.findall(r"(?<![\w'])--[a-z][a-z-]*", example):
                        self.assertIn(used, options)

    def test_the_footer_is_true_for_the_command(self):
        for program, command in self.every_command():
            with self.subTest(program=program, command=command):
                text = help_text(program, command)
                footer = " ".join(text.split("\nExamples:\n")[1].split("\n\n", 1)[1].split())
                options = options_of(text)
                named = re.search(r"command line \((--[a-z-]+)\), in the environment \((\w+)\) .*\(key: ([a-z-]+)\)", footer)
                self.assertTrue(named, footer)
                option, variable, key = named.groups()
                self.assertIn(option, options)
                self.assertEqual(variable, "MILLRACE_" + option[2:].replace("-", "_").upper())
                self.assertEqual(key, option[2:])
                only = re.search(r"Only on the command line: ([^.]*)\.", footer)
                only = only.group(1).split(", ") if only else []
                for name in only:
                    self.assertIn(name, options)
                self.assert_set_by_file(program, command, key, [name[2:] for name in only] + ["config"])

    def assert_set_by_file(self, program, command, key, refused):
        """A file may set `key` for the command, and none of `refused`."""
        path = self.dir / "options.toml"
        path.write_text(f"[{command}]\n{key} = ['', '']\n")
        self.assert_exit(self.run_program(program, command, "--config", path), harness.USAGE, f"--{key}", str(path))
        for other in refused:
            path.write_text(f"[{command}]\n{other} = ['', '']\n")
            self.assert_exit(self.run_program(program, command, "--config", path), 78, f"unknown key '{other}'")


if __name__ == "__main__":
    unittest.main()
