# cmake -DPAGE=index.html -DSOURCE=page.cpp -P embed.cmake: a text file as a C++ string.
file(READ "${PAGE}" text)
file(WRITE "${SOURCE}" "#include \"broker/admin/page.h\"

namespace millrace::admin {

const char* const kPage = R\"__page__(${text})__page__\";

}  // namespace millrace::admin
")
