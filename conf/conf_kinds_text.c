/* Texts, each kind with its rule. */
#include "conf/conf_kinds.h"

#include <errno.h>

#include "base/calendar.h"
#include "conf/conf_lenient.h"
#include "conf/conf_net.h"

enum { TEXT_MOST_BYTES = 1024, USER_MOST_BYTES = 32 };

/* A certificate bundle is some hundred KiB. */
static const size_t file_most_bytes = (size_t)16 << 20;

static void store_text(struct conf_reader *reader, void *object, size_t offset, struct span text) {
    char *kept = conf_keep(reader, text);
    memcpy(conf_field(object, offset), &kept, sizeof(kept));
}

/* Are all bytes between least and 0x7e, or part of a UTF-8 sequence when allow_utf8? */
static bool has_only(struct span text, char least, bool allow_utf8) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.base[i];
        if (c < (unsigned char)least || c == 0x7f || (c > 0x7f && !allow_utf8)) {
            return false;
        }
    }
    return true;
}

static bool take_text(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                      const struct conf_node *value, struct conf_scalar *out) {
    if (!conf_take_scalar(reader, place, value, setting->kind->label, out)) {
        return false;
    }
    if (out->text.len > TEXT_MOST_BYTES || !has_only(out->text, 0x20, true)) {
        conf_report(reader, place, value, "is longer than %d bytes or has control characters", TEXT_MOST_BYTES);
        return false;
    }
    return true;
}

static void read_text(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                      const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    if (take_text(reader, setting, place, value, &scalar)) {
        store_text(reader, object, setting->offset, scalar.text);
    }
}

/* What goes into a request line or a JSON text as it is: visible ASCII. */
static void read_word(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                      const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    if (!take_text(reader, setting, place, value, &scalar)) {
        return;
    }
    if (!has_only(scalar.text, 0x21, false)) {
        conf_report(reader, place, value, "has a space or a character that is not ASCII");
        return;
    }
    store_text(reader, object, setting->offset, scalar.text);
}

bool conf_is_name(struct span text, size_t most) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '-' && c <= ':') || c == '_' || c == '@';
        if (!fits) {
            return false;
        }
    }
    return text.len != 0 && text.len <= most;
}

static void read_name(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                      const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    if (!take_text(reader, setting, place, value, &scalar)) {
        return;
    }
    if (!conf_is_name(scalar.text, CONF_NAME_MOST)) {
        conf_report(reader, place, value, "%s is no valid name; use 1 to %d characters of A-Z a-z 0-9 . _ : / @ -",
                    scalar.quote, CONF_NAME_MOST);
        return;
    }
    store_text(reader, object, setting->offset, scalar.text);
}

/* Secrets go into HTTP headers: visible ASCII only. */
static void read_secret(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                        const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    if (!conf_take_secret(reader, place, value, setting->kind->label, &scalar)) {
        return;
    }
    if (!has_only(scalar.text, 0x21, false)) {
        conf_report(reader, place, value,
                    "holds a space, a line break or another character that no secret has; check how it was copied");
        return;
    }
    store_text(reader, object, setting->offset, scalar.text);
}

static void read_file(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                      const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    if (!take_text(reader, setting, place, value, &scalar)) {
        return;
    }
    char *path = conf_keep_path(reader, scalar.text);
    struct buffer content;
    buffer_init(&content, file_most_bytes);
    /* Whoever only looks at a server need not be able to read its keys. */
    if (!conf_lenient_is_on(reader) && !conf_read_file(path, file_most_bytes, false, &content)) {
        conf_report(reader, place, value, "the file %s cannot be read: %s", scalar.quote,
                    errno == EINVAL ? "it is no regular file" : strerror(errno));
    }
    if (content.base != NULL) {
        explicit_bzero(content.base, content.size);
    }
    buffer_fini(&content);
    memcpy(conf_field(object, setting->offset), &path, sizeof(path));
}

static void read_address(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                         const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    struct span host;
    int port = 0;
    if (!take_text(reader, setting, place, value, &scalar)) {
        return;
    }
    if (!conf_net_split_address(scalar.text, &host, &port)) {
        conf_report(reader, place, value, "%s is no address; write HOST:PORT such as 127.0.0.1:8080 or [::1]:8080",
                    scalar.quote);
        return;
    }
    struct conf_address address = {
        .text = conf_keep(reader, scalar.text), .host = conf_keep(reader, host), .port = port};
    memcpy(conf_field(object, setting->offset), &address, sizeof(address));
}

/* URLs are never quoted: people write secrets into them. */
static void read_base_url(struct conf_reader *reader, const struct conf_setting *setting,
                          const struct conf_place *place, const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    struct conf_url url;
    if (!take_text(reader, setting, place, value, &scalar)) {
        return;
    }
    const char *problem = conf_net_split_url(scalar.text, &url);
    if (problem == NULL && !span_is_nocase(url.scheme, "http") && !span_is_nocase(url.scheme, "https")) {
        problem = "is neither http:// nor https://";
    }
    if (problem != NULL) {
        conf_report(reader, place, value, "the URL %s", problem);
        return;
    }
    struct span text = scalar.text;
    while (text.base[text.len - 1] == '/') {
        text.len--;
    }
    store_text(reader, object, setting->offset, text);
}

static bool has_scheme(struct span text, const char *const *schemes) {
    for (size_t i = 0; schemes[i] != NULL; i++) {
        if (span_starts_with(text, schemes[i]) && text.len > strlen(schemes[i])) {
            return true;
        }
    }
    return false;
}

/* A URL that may carry credentials: taken like a secret. */
static void read_secret_url(struct conf_reader *reader, const struct conf_setting *setting,
                            const struct conf_place *place, const struct conf_node *value, void *object,
                            const char *const *schemes) {
    struct conf_scalar scalar;
    if (!conf_take_secret(reader, place, value, setting->kind->label, &scalar)) {
        return;
    }
    if (scalar.text.len > TEXT_MOST_BYTES || !has_only(scalar.text, 0x21, false) || !has_scheme(scalar.text, schemes)) {
        conf_report(reader, place, value, "is no %s URL", schemes[0]);
        return;
    }
    store_text(reader, object, setting->offset, scalar.text);
}

static void read_proxy(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                       const struct conf_node *value, void *object) {
    static const char *const schemes[] = {"http://", "https://", "socks5://", "socks5h://", NULL};
    read_secret_url(reader, setting, place, value, object, schemes);
}

static void read_redis(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                       const struct conf_node *value, void *object) {
    static const char *const schemes[] = {"redis://", "rediss://", NULL};
    read_secret_url(reader, setting, place, value, object, schemes);
}

static void read_zone(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                      const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    if (!take_text(reader, setting, place, value, &scalar)) {
        return;
    }
    if (!calendar_zone_exists(scalar.text.base)) {
        conf_report(reader, place, value, "%s is no time zone of this system; write one such as UTC or Europe/Berlin",
                    scalar.quote);
        return;
    }
    store_text(reader, object, setting->offset, scalar.text);
}

static void read_currency(struct conf_reader *reader, const struct conf_setting *setting,
                          const struct conf_place *place, const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    if (!take_text(reader, setting, place, value, &scalar)) {
        return;
    }
    bool fits = scalar.text.len == 3;
    for (size_t i = 0; fits && i < 3; i++) {
        fits = scalar.text.base[i] >= 'A' && scalar.text.base[i] <= 'Z';
    }
    if (!fits) {
        conf_report(reader, place, value, "%s is no currency code; write three capital letters such as EUR",
                    scalar.quote);
        return;
    }
    store_text(reader, object, setting->offset, scalar.text);
}

static bool is_user_name(struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
        fits = fits || (i != 0 && (c == '-' || c == '.' || (c == '$' && i + 1 == text.len)));
        if (!fits) {
            return false;
        }
    }
    return text.len != 0 && text.len <= USER_MOST_BYTES;
}

static void read_user(struct conf_reader *reader, const struct conf_setting *setting, const struct conf_place *place,
                      const struct conf_node *value, void *object) {
    struct conf_scalar scalar;
    if (!take_text(reader, setting, place, value, &scalar)) {
        return;
    }
    if (!is_user_name(scalar.text)) {
        conf_report(reader, place, value, "%s is no user name", scalar.quote);
        return;
    }
    store_text(reader, object, setting->offset, scalar.text);
}

const struct conf_kind conf_kind_text = {.label = "a text", .read = read_text};
const struct conf_kind conf_kind_word = {.label = "a text", .read = read_word};
const struct conf_kind conf_kind_name = {.label = "a name", .read = read_name};
const struct conf_kind conf_kind_secret = {.label = "a secret", .read = read_secret};
const struct conf_kind conf_kind_path = {.label = "a path", .read = read_text};
const struct conf_kind conf_kind_file = {.label = "a file name", .read = read_file};
const struct conf_kind conf_kind_address = {.label = "an address", .read = read_address};
const struct conf_kind conf_kind_base_url = {.label = "a URL", .read = read_base_url};
const struct conf_kind conf_kind_proxy = {.label = "a URL", .read = read_proxy};
const struct conf_kind conf_kind_redis = {.label = "a URL", .read = read_redis};
const struct conf_kind conf_kind_zone = {.label = "a time zone", .read = read_zone};
const struct conf_kind conf_kind_currency = {.label = "a currency code", .read = read_currency};
const struct conf_kind conf_kind_user = {.label = "a user name", .read = read_user};
