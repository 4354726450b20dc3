// What a process inherits from whoever started it, set once at the start and never trusted: a
// shell, a service manager, cron or a language runtime leaves signals ignored or blocked,
// descriptors closed, and odd masks behind.
// Shape:   standard streams: those that are closed are /dev/null
//          signals: none blocked, but for a SIGTERM or SIGINT that waits already, which is the
//          command's to take; ignored ones are back at their default, SIGTERM and SIGINT too, but
//          for SIGHUP (nohup), SIGPIPE (who ignores it wants errors of write(): 74) and those of job
//          control; SIGXFSZ is ignored, so that a file that may
//          not grow is an error of write(), as a full disk is; so are those that would end it and
//          that it has no use for: SIGUSR1, SIGUSR2, those of timers, SIGIO, SIGPWR, the real-time ones
//          umask: never takes rights from the owner
//          What a program takes through a signalfd, the program sets itself. The locale
//          stays "C": no program calls setlocale().
// Threads: call it before the first thread
#pragma once

#include <cstdint>

namespace millrace {

void reset_process_state();

// The soft limit of open files as it was inherited, which commands of handlers get back.
uint64_t inherited_descriptor_limit();

}  // namespace millrace
