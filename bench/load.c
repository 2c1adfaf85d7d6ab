/* The load of the benchmark: clients that ask again and again, and note what comes back and when.
 *
 * Owns: some connections to one port of loopback, one thread, one epoll, its own reading of HTTP and of events. Sends
 * the same POST on each of them, the next one as soon as the answer to the last one is complete.
 *
 *   load --port N --body FILE [--path PATH] [--connections N] [--seconds N | --each N] [--hold]
 *
 * --seconds: stop asking after so long; answers that have begun are waited for. --each: so many requests on each
 * connection. --hold: print "held" when all have got their first event, and stay until standard input ends.
 *
 * Prints one JSON object. Counted are requests that were answered, events with content, bytes received, and what is
 * wrong with them: `merged` (an event that came in one read with another), `disordered` (one that is not the next),
 * `broken` (an answer of another status than 200, cut off, or a stream without "[DONE]"), of which `complaint` is the
 * first. Latencies are in microseconds, `event` from the time that the peer wrote into it (see peer.c).
 *
 * Promises: it ends: PATIENCE seconds after --seconds (or after the start) what is not complete is broken. With --hold
 * it ends with its standard input.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 8192, PATIENCE = 30, MOST_SAMPLES = 8 << 20 };

enum phase { HEAD, FIXED, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, COMPLETE };

struct connection {
    int fd;
    unsigned asked;
    size_t sent; /* of the request */
    int64_t since;
    bool wants_room, closed;
    /* the answer */
    enum phase phase;
    bool stream, done;
    size_t left; /* of the body, or of the chunk */
    char line[ROOM]; /* the head, or a line between chunks */
    size_t line_size;
    char event[ROOM];
    size_t event_size;
    unsigned events;
    unsigned in_this_read;
};

/* Latencies in nanoseconds. */
struct samples {
    int64_t *values;
    size_t count;
};

static int port = 0, poller;
static const char *path = "/v1/chat/completions";
static char *request;
static size_t request_size;
static unsigned count = 1, each = 0, busy, first_events;
static bool hold;
static int64_t ends_at = INT64_MAX, gives_up_at = INT64_MAX;
static uint64_t requests, events, bytes, merged, disordered, broken;
static char complaint[200];
static struct samples request_times, event_times;

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *need(void *memory)
{
    if (memory == NULL)
        die("memory");
    return memory;
}

static int64_t now(void)
{
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return (int64_t)moment.tv_sec * 1000000000 + moment.tv_nsec;
}

static void note(struct samples *samples, int64_t value)
{
    if (samples->values == NULL)
        samples->values = need(malloc(MOST_SAMPLES * sizeof *samples->values)); /* touched as far as it is used */
    if (samples->count < MOST_SAMPLES)
        samples->values[samples->count++] = value;
}

/* --- events */

static void take_event(struct connection *connection, int64_t moment)
{
    char *event = connection->event;
    event[connection->event_size] = '\0';
    if (strncmp(event, "data: [DONE]", 12) == 0) {
        connection->done = true;
        return;
    }
    const char *content = strstr(event, "\"content\":\"");
    if (strncmp(event, "data: {", 7) != 0 || content == NULL)
        return; /* a sign of life */
    char *end;
    unsigned long number = strtoul(content + strlen("\"content\":\""), &end, 10);
    int64_t written = *end == ':' ? strtoll(end + 1, NULL, 10) : 0;
    disordered += number != connection->events;
    merged += connection->in_this_read > 0;
    first_events += connection->events == 0;
    connection->in_this_read++;
    connection->events++;
    events++;
    if (written > 0)
        note(&event_times, moment - written);
}

static void take_stream(struct connection *connection, const char *data, size_t size, int64_t moment)
{
    for (size_t at = 0; at < size;) {
        const char *line_end = memchr(data + at, '\n', size - at);
        size_t piece = line_end == NULL ? size - at : (size_t)(line_end + 1 - data) - at;
        if (connection->event_size + piece >= ROOM)
            piece = 0, connection->event_size = 0, at = size; /* no event of ours; found to be missing later */
        memcpy(connection->event + connection->event_size, data + at, piece);
        connection->event_size += piece;
        at += piece;
        size_t have = connection->event_size;
        if (have >= 2 && connection->event[have - 1] == '\n' && connection->event[have - 2] == '\n') {
            take_event(connection, moment);
            connection->event_size = 0;
        }
    }
}

/* --- answers */

static void complain(const char *what)
{
    broken++;
    if (complaint[0] == '\0')
        for (size_t n = 0; n < sizeof complaint - 1 && what[n] != '\0'; n++)
            complaint[n] = what[n] == '"' || what[n] == '\\' || what[n] < ' ' ? ' ' : what[n];
}

static void take_head(struct connection *connection)
{
    const char *length = strcasestr(connection->line, "\r\ncontent-length:");
    connection->stream = strcasestr(connection->line, "\r\ncontent-type: text/event-stream") != NULL;
    if (strncmp(connection->line, "HTTP/1.1 200 ", 13) != 0)
        complain(connection->line);
    if (strcasestr(connection->line, "\r\ntransfer-encoding: chunked") != NULL) {
        connection->phase = CHUNK_SIZE;
        return;
    }
    connection->left = length == NULL ? 0 : strtoul(length + strlen("\r\ncontent-length:"), NULL, 10);
    connection->phase = connection->left > 0 ? FIXED : COMPLETE;
}

/* Take bytes of a line, or of the head, up to its end; return how many. */
static size_t take_line(struct connection *connection, const char *data, size_t size)
{
    const char *newline = memchr(data, '\n', size);
    size_t taken = newline == NULL ? size : (size_t)(newline + 1 - data);
    if (connection->line_size + taken >= ROOM) {
        complain("a line without an end");
        connection->phase = COMPLETE;
        return size;
    }
    memcpy(connection->line + connection->line_size, data, taken);
    connection->line_size += taken;
    connection->line[connection->line_size] = '\0';
    if (newline == NULL)
        return taken;
    if (connection->phase == HEAD) {
        if (connection->line_size < 4 || strcmp(connection->line + connection->line_size - 4, "\r\n\r\n") != 0)
            return taken;
        take_head(connection);
    } else if (connection->phase == CHUNK_SIZE) {
        connection->left = strtoul(connection->line, NULL, 16);
        connection->phase = connection->left > 0 ? CHUNK : TRAILER;
    } else if (connection->phase == CHUNK_END) {
        connection->phase = CHUNK_SIZE;
    } else if (connection->line_size <= 2) { /* the empty line after the last chunk */
        connection->phase = COMPLETE;
    }
    connection->line_size = 0;
    return taken;
}

static size_t take_body(struct connection *connection, const char *data, size_t size, int64_t moment)
{
    size_t taken = size < connection->left ? size : connection->left;
    if (connection->stream)
        take_stream(connection, data, taken, moment);
    connection->left -= taken;
    if (connection->left == 0)
        connection->phase = connection->phase == FIXED ? COMPLETE : CHUNK_END;
    return taken;
}

/* --- connections */

static void want_room(struct connection *connection, bool wanted)
{
    if (connection->wants_room == wanted)
        return;
    struct epoll_event wish = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &wish);
    connection->wants_room = wanted;
}

static void finish(struct connection *connection)
{
    if (connection->closed)
        return;
    connection->closed = true;
    close(connection->fd);
    busy--;
}

static void send_more(struct connection *connection)
{
    while (connection->sent < request_size) {
        ssize_t size = send(connection->fd, request + connection->sent, request_size - connection->sent, MSG_NOSIGNAL);
        if (size < 0 && errno == EAGAIN)
            break;
        if (size < 0) {
            complain("the connection broke while a request was sent");
            finish(connection);
            return;
        }
        connection->sent += (size_t)size;
    }
    want_room(connection, connection->sent < request_size);
}

static void ask(struct connection *connection)
{
    if (now() >= ends_at || (each > 0 && connection->asked == each)) {
        finish(connection);
        return;
    }
    connection->asked++;
    connection->sent = connection->line_size = connection->event_size = 0;
    connection->events = 0;
    connection->done = false;
    connection->phase = HEAD;
    connection->since = now();
    send_more(connection);
}

static void answered(struct connection *connection, int64_t moment)
{
    requests++;
    note(&request_times, moment - connection->since);
    if (connection->stream && !connection->done)
        complain("a stream ended without [DONE]");
    ask(connection);
}

static void listen_to(struct connection *connection)
{
    static char data[256 * 1024];
    ssize_t size = recv(connection->fd, data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0) {
        complain("the connection was closed before the end of an answer");
        finish(connection);
        return;
    }
    int64_t moment = now();
    bytes += (uint64_t)size;
    connection->in_this_read = 0;
    for (ssize_t at = 0; at < size && connection->phase != COMPLETE;) {
        bool body = connection->phase == FIXED || connection->phase == CHUNK;
        at += (ssize_t)(body ? take_body(connection, data + at, (size_t)(size - at), moment)
                             : take_line(connection, data + at, (size_t)(size - at)));
    }
    if (connection->phase == COMPLETE)
        answered(connection, moment);
}

static void open_one(struct connection *connection)
{
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connecting");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event wish = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &wish);
    busy++;
    ask(connection);
}

/* --- the run */

static void read_request(const char *file)
{
    FILE *opened = fopen(file, "rb");
    if (opened == NULL)
        die(file);
    fseek(opened, 0, SEEK_END);
    long size = ftell(opened);
    rewind(opened);
    request = need(malloc((size_t)size + 1024));
    int head = snprintf(request, 1024,
                        "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\nContent-Type: application/json\r\n"
                        "Content-Length: %ld\r\n\r\n",
                        path, port, size);
    if (head >= 1024 || fread(request + head, 1, (size_t)size, opened) != (size_t)size)
        die(file);
    request_size = (size_t)(head + size);
    fclose(opened);
}

static void run(void)
{
    struct epoll_event found[256];
    bool held = false;
    while (busy > 0) {
        if (now() >= gives_up_at) {
            complain("an answer took too long");
            return;
        }
        int ready = epoll_wait(poller, found, 256, 1000);
        for (int n = 0; n < ready; n++) {
            struct connection *connection = found[n].data.ptr;
            if (connection == NULL)
                return; /* standard input: enough was held */
            if (!connection->closed && (found[n].events & EPOLLOUT))
                send_more(connection);
            if (!connection->closed && (found[n].events & ~(uint32_t)EPOLLOUT))
                listen_to(connection);
        }
        if (hold && !held && first_events >= count) {
            held = true;
            puts("held");
            fflush(stdout);
        }
    }
}

static int by_value(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static void print_times(const char *name, struct samples *samples)
{
    if (samples->count == 0) {
        printf(", \"%s\": null", name);
        return;
    }
    qsort(samples->values, samples->count, sizeof *samples->values, by_value);
    printf(", \"%s\": {\"p50\": %.1f, \"p99\": %.1f}", name, (double)samples->values[samples->count / 2] / 1000,
           (double)samples->values[samples->count * 99 / 100] / 1000);
}

static void print_all(int64_t began)
{
    printf("{\"requests\": %lu, \"events\": %lu, \"bytes\": %lu, \"merged\": %lu, \"disordered\": %lu, \"broken\": %lu, "
           "\"complaint\": \"%s\", \"seconds\": %.3f",
           requests, events, bytes, merged, disordered, broken, complaint, (double)(now() - began) / 1e9);
    print_times("request", &request_times);
    print_times("event", &event_times);
    puts("}");
}

int main(int arguments, char **argument)
{
    const char *body = NULL;
    double seconds = 0;
    for (int n = 1; n < arguments; n++) {
        const char *value = n + 1 < arguments ? argument[n + 1] : "";
        if (strcmp(argument[n], "--hold") == 0) {
            hold = true;
            continue;
        }
        if (strcmp(argument[n], "--port") == 0)
            port = atoi(value);
        else if (strcmp(argument[n], "--body") == 0)
            body = value;
        else if (strcmp(argument[n], "--path") == 0)
            path = value;
        else if (strcmp(argument[n], "--connections") == 0)
            count = (unsigned)atoi(value);
        else if (strcmp(argument[n], "--seconds") == 0)
            seconds = atof(value);
        else if (strcmp(argument[n], "--each") == 0)
            each = (unsigned)atoi(value);
        else
            return fprintf(stderr, "load: unknown option %s\n", argument[n]), 2;
        n++;
    }
    if (port == 0 || body == NULL)
        return fprintf(stderr, "load: --port and --body are needed\n"), 2;
    read_request(body);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event enough = {.events = EPOLLIN, .data.ptr = NULL};
    if (hold)
        epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &enough);
    int64_t began = now();
    if (seconds > 0)
        ends_at = began + (int64_t)(seconds * 1e9);
    if (!hold)
        gives_up_at = began + (int64_t)((seconds + PATIENCE) * 1e9);
    struct connection *all = need(calloc(count, sizeof *all));
    for (unsigned n = 0; n < count; n++)
        open_one(&all[n]);
    run();
    print_all(began);
    return 0;
}
