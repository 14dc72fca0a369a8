#include "master/master_notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

void master_notify(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = path != NULL ? strlen(path) : 0;
    if (len < 2 || len >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        socklen_t address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
        (void)sendto(fd, state, strlen(state), MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&address,
                     address_len);
        close(fd);
    }
}

int64_t master_notify_watchdog_ns(void) {
    const char *text = getenv("WATCHDOG_USEC");
    if (text == NULL || getenv("NOTIFY_SOCKET") == NULL) {
        return 0;
    }
    int64_t interval_us = strtoll(text, NULL, 10);
    return interval_us > 0 && interval_us < INT64_MAX / NS_PER_US ? interval_us * NS_PER_US / 2 : 0;
}
