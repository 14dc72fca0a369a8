/* The console's files, put into the program when it is built. */
#include "admin/admin_handlers.h"

/* NAME_start and NAME_end enclose the file's bytes. */
#define EMBED(name, file)                                                                                              \
    __asm__(".pushsection .rodata\n" #name "_start:\n.incbin \"" CONSOLE_DIR "/" file "\"\n" #name                     \
            "_end:\n.byte 0\n.popsection\n");                                                                          \
    extern const char name##_start[] __attribute__((visibility("hidden")));                                            \
    extern const char name##_end[] __attribute__((visibility("hidden")))

EMBED(console_page, "console.html");
EMBED(console_style, "console.css");
EMBED(console_script, "console.js");

static const struct {
    const char *path;
    const char *content_type;
    const char *start;
    const char *end;
} files[] = {
    {"/", "text/html; charset=utf-8", console_page_start, console_page_end},
    {"/console.css", "text/css; charset=utf-8", console_style_start, console_style_end},
    {"/console.js", "text/javascript; charset=utf-8", console_script_start, console_script_end},
};

void admin_console(struct admin_call *call, struct admin_tools *tools) {
    (void)tools;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (strcmp(call->path, files[i].path) == 0) {
            call->status = 200;
            call->content_type = files[i].content_type;
            call->fixed = span_of(files[i].start, (size_t)(files[i].end - files[i].start));
            return;
        }
    }
    call_fail_not_found(call, "There is nothing at this path.");
}
