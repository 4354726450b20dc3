// What /bin/sh -c is given for a command. Some shells fork for a single program too, and then only
// wait for it: a process more for each job, and a signal that ends the program is seen as an exit
// status. So one that is a simple command replaces its shell.
// Shape:   "sort -n 2>&1" → "exec sort -n 2>&1"; all others as they are: lists, pipelines,
//          assignments, builtins, programs that are not on PATH
//          plain_words(): "exec sort -n" → {sort, -n}, so that the spawn server needs no shell at all;
//          empty where a shell would see more than words: quotes, variables, patterns, redirections
// Threads: any
// Source:  POSIX.1-2017, Shell Command Language, 2.9.1 and 2.14
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace millrace::worker {

std::string shell_command(std::string_view command);
std::vector<std::string> plain_words(std::string_view shell_command);

}  // namespace millrace::worker
