// `millrace-broker journal repair`: from a damaged directory to a new one that a broker takes.
// Shape:   the source is only read. The new journal grows in TO.partial, which gets the name TO when
//          all of it is on disk: a directory of that name is a whole repair.
// Errors:  65 nothing can be saved, or another format version; 73 TO is not empty, or can't be made;
//          74 I/O
// Threads: one
#pragma once

#include "broker/offline/survey.h"

namespace millrace::offline {

// What stood in the source, and what of it is lost.
Result<Survey> repair(journal::Directory& from, const std::string& to,
                      const std::function<void(const SurveyProgress&)>& progress);

}  // namespace millrace::offline
