/* The console's files, put into the program when it is built. */
#include "admin/admin_handlers.h"
#include "base/json_write.h"

/* NAME_start and NAME_end enclose the file's bytes. */
#define EMBED(name, file)                                                                                              \
    __asm__(".pushsection .rodata\n" #name "_start:\n.incbin \"" CONSOLE_DIR "/" file "\"\n" #name                     \
            "_end:\n.byte 0\n.popsection\n");                                                                          \
    extern const char name##_start[] __attribute__((visibility("hidden")));                                            \
    extern const char name##_end[] __attribute__((visibility("hidden")))

EMBED(console_page, "console.html");
EMBED(console_style, "console.css");
EMBED(console_script, "console.js");
EMBED(playground_page, "playground.html");
EMBED(playground_script, "playground.js");

static const struct {
    const char *path;
    const char *content_type;
    const char *start;
    const char *end;
    bool reaches_out;
} files[] = {
    {"/", "text/html; charset=utf-8", console_page_start, console_page_end, false},
    {"/console.css", "text/css; charset=utf-8", console_style_start, console_style_end, false},
    {"/console.js", "text/javascript; charset=utf-8", console_script_start, console_script_end, false},
    {"/playground", "text/html; charset=utf-8", playground_page_start, playground_page_end, true},
    {"/playground.js", "text/javascript; charset=utf-8", playground_script_start, playground_script_end, false},
};

void admin_console(struct admin_call *call, struct admin_tools *tools) {
    (void)tools;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (strcmp(call->path, files[i].path) == 0) {
            call->status = 200;
            call->content_type = files[i].content_type;
            call->reaches_out = files[i].reaches_out;
            call->fixed = span_of(files[i].start, (size_t)(files[i].end - files[i].start));
            return;
        }
    }
    call_fail_not_found(call, "There is nothing at this path.");
}

/* No secret: whoever can ask for this can reach the machine anyway. The page has no token. */
void admin_playground(struct admin_call *call, struct admin_tools *tools) {
    struct json_writer writer = json_writer_on(&call->answer);
    json_begin_object(&writer, NULL);
    json_begin_array(&writer, "listen");
    for (int i = 0; i < tools->conf->listen_count; i++) {
        const struct conf_listen *listen = &tools->conf->listens[i];
        json_begin_object(&writer, NULL);
        json_write_text(&writer, "host", listen->address.host);
        json_write_int(&writer, "port", listen->address.port);
        json_write_bool(&writer, "tls", listen->tls);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    call_done(call, 200);
}
