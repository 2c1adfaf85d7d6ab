/* A scripted stand-in for llama-server that costs next to nothing, so that what stands before it can be measured.
 *
 * Owns: one port of loopback, one thread, one epoll. Takes llama-server's command line (of which it heeds --port and
 * --alias) so that the gateway launches it as it launches the real one. What it answers to a POST is asked for by the
 * field "bench" near the beginning of the request's body:
 *
 *   small     a JSON answer of about 1 KB
 *   large     a JSON answer of about 1 MB
 *   burst     a stream of BURST_EVENTS events in one write
 *   paced/N   a stream of N events, one each 10 ms, each in a write of its own
 *   idle      a stream of one event each 10 s
 *
 * Answers look like llama-server's: the alias under "model", one HTTP chunk for each event, "data: [DONE]" at the
 * end. The content of an event is "NUMBER:TIME": its number in the stream, and the CLOCK_MONOTONIC nanoseconds at which
 * it was written (0 in a burst).
 *
 * Promises: it never waits for a client. One that does not read what is sent is dropped when its buffer is full.
 * Does not: check keys, take chunked requests, or take a request before the last one is answered.
 *
 * The environment variable PEER_CPU pins it to a processor.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    MOST_CLIENTS = 16384, /* by file descriptor */
    HEAD_ROOM = 8192,
    NOTED_BODY = 512, /* bytes of a request's body that are looked at */
    STREAM_ROOM = 16384,
    BURST_EVENTS = 200,
    SMALL_BYTES = 1000,
    LARGE_BYTES = 1000 * 1000,
};
static const int64_t PACED_GAP = 10 * 1000 * 1000;                  /* ns */
static const int64_t IDLE_GAP = (int64_t)10 * 1000 * 1000 * 1000; /* ns */

#define STREAM_HEAD                                                                                                    \
    "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
#define DONE "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"

/* Bytes that are sent as they are, from start to end. */
struct text {
    char *bytes;
    size_t size;
};

struct client {
    int fd;
    /* the request */
    char head[HEAD_ROOM];
    size_t head_size;
    char body[NOTED_BODY + 1];
    size_t body_size; /* of what is noted */
    size_t body_left; /* of what still comes */
    bool head_read;
    /* the answer */
    const char *out;
    size_t out_left;
    bool wants_room; /* waits for EPOLLOUT */
    char *own;       /* STREAM_ROOM bytes that a stream is written into; `out` points into it then */
    /* the stream, where it is one */
    int place; /* in `streams`, or -1 */
    int64_t due, gap;
    unsigned sent, total; /* events; total 0 is without end */
};

static const char *alias = "peer";
static struct text small_answer, large_answer, burst_answer;
static struct client *clients[MOST_CLIENTS];
static struct client *streams[MOST_CLIENTS];
static int stream_count, poller, timer;
static unsigned accepted, started;
static int64_t armed_for;

static void die(const char *what)
{
    fprintf(stderr, "peer: %s: %s\n", what, strerror(errno));
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

/* --- what is said */

/* Write one event as one HTTP chunk; return its length. `room` must hold 512 bytes and the alias. */
static size_t write_event(char *into, size_t room, unsigned number, int64_t moment)
{
    char event[1024];
    int size = snprintf(event, sizeof event,
                        "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"%u:%lld\"}}],"
                        "\"created\":1700000000,\"id\":\"chatcmpl-0123456789abcdefghijklmnopqrstuv\",\"model\":\"%s\","
                        "\"system_fingerprint\":\"b11669-bench\",\"object\":\"chat.completion.chunk\"}\n\n",
                        number, (long long)moment, alias);
    return (size_t)snprintf(into, room, "%x\r\n%s\r\n", (unsigned)size, event);
}

static struct text whole_answer(size_t content_size)
{
    struct text answer;
    char before[512], after[512], head[256];
    int before_size = snprintf(before, sizeof before,
                               "{\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"message\":"
                               "{\"role\":\"assistant\",\"content\":\"");
    int after_size = snprintf(after, sizeof after,
                              "\"}}],\"created\":1700000000,\"model\":\"%s\",\"object\":\"chat.completion\",\"usage\":"
                              "{\"completion_tokens\":100,\"prompt_tokens\":100,\"total_tokens\":200},"
                              "\"id\":\"chatcmpl-0123456789abcdefghijklmnopqrstuv\"}",
                              alias);
    size_t filling = content_size - (size_t)before_size - (size_t)after_size;
    int head_size = snprintf(head, sizeof head,
                             "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: application/json; charset=utf-8\r\n"
                             "Content-Length: %zu\r\n\r\n",
                             content_size);
    answer.size = (size_t)head_size + content_size;
    answer.bytes = need(malloc(answer.size));
    char *at = mempcpy(answer.bytes, head, (size_t)head_size);
    at = mempcpy(at, before, (size_t)before_size);
    for (size_t n = 0; n < filling; n++)
        *at++ = "answers are made of words "[n % 26];
    memcpy(at, after, (size_t)after_size);
    return answer;
}

static struct text whole_burst(void)
{
    struct text burst = {need(malloc(BURST_EVENTS * 1024)), 0};
    burst.size = strlen(strcpy(burst.bytes, STREAM_HEAD));
    for (unsigned number = 0; number < BURST_EVENTS; number++)
        burst.size += write_event(burst.bytes + burst.size, 1024, number, 0);
    burst.size += strlen(strcpy(burst.bytes + burst.size, DONE));
    return burst;
}

/* --- clients */

static void leave_streams(struct client *client)
{
    if (client->place < 0)
        return;
    struct client *last = streams[--stream_count];
    streams[client->place] = last;
    last->place = client->place;
    client->place = -1;
}

static void drop(struct client *client)
{
    leave_streams(client);
    clients[client->fd] = NULL;
    close(client->fd);
    free(client->own);
    free(client);
}

static void want_room(struct client *client, bool wanted)
{
    if (client->wants_room == wanted)
        return;
    struct epoll_event wish = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.fd = client->fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &wish);
    client->wants_room = wanted;
}

/* Send what can be sent. Return false if the client is gone; it has been dropped then. */
static bool flush(struct client *client)
{
    while (client->out_left > 0) {
        ssize_t sent = send(client->fd, client->out, client->out_left, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            break;
        if (sent < 0) {
            drop(client);
            return false;
        }
        client->out += sent;
        client->out_left -= (size_t)sent;
    }
    want_room(client, client->out_left > 0);
    return true;
}

static bool say(struct client *client, const char *bytes, size_t size)
{
    client->out = bytes;
    client->out_left = size;
    return flush(client);
}

/* Send a piece of a stream behind what has not been sent yet. */
static bool say_more(struct client *client, const char *bytes, size_t size)
{
    if (client->out_left + size > STREAM_ROOM) {
        drop(client);
        return false;
    }
    memmove(client->own, client->out, client->out_left);
    memcpy(client->own + client->out_left, bytes, size);
    return say(client, client->own, client->out_left + size);
}

static bool begin_stream(struct client *client, unsigned total, int64_t gap)
{
    if (client->own == NULL)
        client->own = need(malloc(STREAM_ROOM));
    client->out = client->own;
    client->out_left = 0;
    client->sent = 0;
    client->total = total;
    client->gap = gap;
    /* Spread, so that streams which begin together do not speak together. */
    client->due = total == 0 ? now() : now() + gap * (started++ % 64) / 64;
    client->place = stream_count;
    streams[stream_count++] = client;
    return say_more(client, STREAM_HEAD, strlen(STREAM_HEAD));
}

static void next_event(struct client *client, int64_t moment)
{
    char event[1024];
    size_t size = write_event(event, sizeof event, client->sent, moment);
    client->sent++;
    /* One who is late is late for good: catching up would make pairs of events. */
    client->due = client->due + client->gap > moment ? client->due + client->gap : moment + client->gap;
    bool last = client->sent == client->total;
    if (last)
        leave_streams(client);
    if (say_more(client, event, size) && last)
        say_more(client, DONE, strlen(DONE));
}

static void speak(void)
{
    int64_t moment = now();
    for (int place = stream_count - 1; place >= 0; place--) /* downward: a client that leaves is replaced by the last */
        if (place < stream_count && streams[place]->due <= moment)
            next_event(streams[place], now());
}

static void arm(void)
{
    int64_t earliest = 0;
    for (int place = 0; place < stream_count; place++)
        if (earliest == 0 || streams[place]->due < earliest)
            earliest = streams[place]->due;
    if (earliest == armed_for)
        return;
    struct itimerspec when = {.it_value = {earliest / 1000000000, earliest % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
    armed_for = earliest;
}

/* --- requests */

static bool answer_get(struct client *client)
{
    char body[512], whole[1024];
    int size;
    if (strncmp(client->head, "GET /v1/models ", 15) == 0)
        size = snprintf(body, sizeof body, "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\"}]}", alias);
    else if (strncmp(client->head, "GET /accepted ", 14) == 0)
        size = snprintf(body, sizeof body, "{\"accepted\":%u}", accepted);
    else
        size = snprintf(body, sizeof body, "{\"status\":\"ok\"}");
    int all = snprintf(whole, sizeof whole,
                       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size, body);
    if (client->own == NULL)
        client->own = need(malloc(STREAM_ROOM));
    memcpy(client->own, whole, (size_t)all);
    return say(client, client->own, (size_t)all);
}

static bool answer(struct client *client)
{
    if (strncmp(client->head, "POST ", 5) != 0)
        return answer_get(client);
    client->body[client->body_size] = '\0';
    const char *field = strstr(client->body, "\"bench\":\"");
    const char *wish = field == NULL ? "small" : field + strlen("\"bench\":\"");
    if (strncmp(wish, "paced/", 6) == 0)
        return begin_stream(client, (unsigned)strtoul(wish + 6, NULL, 10), PACED_GAP);
    if (strncmp(wish, "idle", 4) == 0)
        return begin_stream(client, 0, IDLE_GAP);
    if (strncmp(wish, "burst", 5) == 0)
        return say(client, burst_answer.bytes, burst_answer.size);
    if (strncmp(wish, "large", 5) == 0)
        return say(client, large_answer.bytes, large_answer.size);
    return say(client, small_answer.bytes, small_answer.size);
}

/* Take bytes of a head; return how many of them were it. */
static size_t take_head(struct client *client, const char *bytes, size_t size)
{
    size_t room = HEAD_ROOM - 1 - client->head_size, taken = size < room ? size : room;
    size_t searched = client->head_size < 3 ? 0 : client->head_size - 3;
    memcpy(client->head + client->head_size, bytes, taken);
    client->head[client->head_size + taken] = '\0';
    char *end = strstr(client->head + searched, "\r\n\r\n");
    if (end == NULL) {
        client->head_size += taken;
        return taken;
    }
    size_t before = client->head_size;
    end[2] = '\0';
    client->head_read = true;
    client->body_size = client->body_left = 0;
    const char *length = strcasestr(client->head, "\r\ncontent-length:");
    if (length != NULL)
        client->body_left = strtoul(length + strlen("\r\ncontent-length:"), NULL, 10);
    return (size_t)(end + 4 - client->head) - before;
}

static size_t take_body(struct client *client, const char *bytes, size_t size)
{
    size_t taken = size < client->body_left ? size : client->body_left;
    size_t room = NOTED_BODY - client->body_size, noted = taken < room ? taken : room;
    memcpy(client->body + client->body_size, bytes, noted);
    client->body_size += noted;
    client->body_left -= taken;
    return taken;
}

/* Take bytes of a request; return false if the client has been dropped. */
static bool take(struct client *client, const char *bytes, size_t size)
{
    while (size > 0) {
        size_t taken = client->head_read ? take_body(client, bytes, size) : take_head(client, bytes, size);
        bytes += taken;
        size -= taken;
        if (client->head_read && client->body_left == 0) {
            client->head_read = false;
            client->head_size = 0;
            if (size > 0 || client->place >= 0 || client->out_left > 0) {
                drop(client); /* it did not wait for its answer */
                return false;
            }
            return answer(client);
        }
        if (taken == 0) { /* a head without an end */
            drop(client);
            return false;
        }
    }
    return true;
}

static void listen_to(struct client *client)
{
    static char bytes[256 * 1024];
    ssize_t size = recv(client->fd, bytes, sizeof bytes, 0);
    if (size > 0)
        take(client, bytes, (size_t)size);
    else if (size == 0 || errno != EAGAIN)
        drop(client);
}

/* --- the port */

static int listening(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0)
        die("port");
    return fd;
}

static void welcome(int door)
{
    int fd, yes = 1;
    while ((fd = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MOST_CLIENTS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        accepted++;
        clients[fd] = need(calloc(1, sizeof(struct client)));
        clients[fd]->fd = fd;
        clients[fd]->place = -1;
        struct epoll_event wish = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wish);
    }
}

static void serve(int door)
{
    struct epoll_event events[256];
    for (;;) {
        arm();
        int count = epoll_wait(poller, events, 256, -1);
        for (int n = 0; n < count; n++) {
            int fd = events[n].data.fd;
            uint64_t times;
            if (fd == door)
                welcome(door);
            else if (fd == timer)
                armed_for = read(timer, &times, sizeof times) > 0 ? 0 : armed_for;
            else if (clients[fd] != NULL && (events[n].events & EPOLLOUT) && !flush(clients[fd]))
                continue;
            else if (clients[fd] != NULL && (events[n].events & ~(uint32_t)EPOLLOUT))
                listen_to(clients[fd]);
        }
        speak();
    }
}

static void pin(const char *processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(atoi(processor), &set);
    sched_setaffinity(0, sizeof set, &set);
}

int main(int count, char **arguments)
{
    int port = 0;
    for (int n = 1; n < count; n++) {
        if (strcmp(arguments[n], "--help") == 0 || strcmp(arguments[n], "--version") == 0)
            return puts("peer of the benchmark, version: 1\n--model --host --port --alias --parallel --ctx-size --fit") < 0;
        if (strcmp(arguments[n], "--port") == 0 && n + 1 < count)
            port = atoi(arguments[++n]);
        else if (strcmp(arguments[n], "--alias") == 0 && n + 1 < count)
            alias = arguments[++n];
    }
    if (strlen(alias) > 128)
        return fprintf(stderr, "peer: the alias is longer than 128 bytes\n"), 1;
    if (getenv("PEER_CPU") != NULL)
        pin(getenv("PEER_CPU"));
    signal(SIGPIPE, SIG_IGN);
    small_answer = whole_answer(SMALL_BYTES);
    large_answer = whole_answer(LARGE_BYTES);
    burst_answer = whole_burst();
    int door = listening(port);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event wish = {.events = EPOLLIN, .data.fd = door};
    epoll_ctl(poller, EPOLL_CTL_ADD, door, &wish);
    wish.data.fd = timer;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &wish);
    serve(door);
}
