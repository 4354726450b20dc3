# cmake -DFILE=index.html -DSOURCE=page.cpp -DHEADER=broker/admin/page.h -DNAMESPACE=millrace::admin
#       -DNAME=kPage -P Embed.cmake: a text file as a C++ string.
file(READ "${FILE}" text)
file(WRITE "${SOURCE}" "#include \"${HEADER}\"

namespace ${NAMESPACE} {

const char* const ${NAME} = R\"__embed__(${text})__embed__\";

}  // namespace ${NAMESPACE}
")
