/*
 * The reference relay: one recv, then one send for every output; what a straightforward relay does.
 *
 * usage: one_by_one IN_INTERFACE OUT_INTERFACE RULE...     RULE = GROUP:PORT=GROUP:PORT[,GROUP:PORT...]
 *
 * One rule is served by a blocking recv; several by epoll, one datagram from each ready input in turn.
 */
#include "common.h"
#include <sys/epoll.h>

#define MAX_OUTPUTS 1024
#define MAX_EVENTS 64

struct rule {
	int input;
	int outputs[MAX_OUTPUTS];
	int count;
};

static char buffer[1 << 16];

static void relay_one(const struct rule *rule)
{
	ssize_t size = recv(rule->input, buffer, sizeof buffer, 0);
	if (size < 0)
		return;
	for (int i = 0; i < rule->count; i++) {
		/* A refused send is a lost copy; the sink counts what arrives. */
		ssize_t sent = send(rule->outputs[i], buffer, (size_t)size, 0);
		(void)sent;
	}
}

static void relay_many(struct rule *rules, int count)
{
	struct epoll_event events[MAX_EVENTS];
	int poll = epoll_create1(0);
	check(poll, "epoll_create1");
	for (int i = 0; i < count; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &rules[i]};
		check(epoll_ctl(poll, EPOLL_CTL_ADD, rules[i].input, &event), "epoll_ctl");
	}
	for (;;) {
		int ready = epoll_wait(poll, events, MAX_EVENTS, -1);
		for (int i = 0; i < ready; i++)
			relay_one(events[i].data.ptr);
	}
}

static void open_rule(struct rule *rule, char *text, int in_ifindex, int out_ifindex)
{
	const char *input = strtok(text, "=");
	rule->input = open_input(in_ifindex, input, BUFFER_BYTES);
	for (const char *to = strtok(NULL, ","); to && rule->count < MAX_OUTPUTS; to = strtok(NULL, ","))
		rule->outputs[rule->count++] = open_output(out_ifindex, to);
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: one_by_one IN_INTERFACE OUT_INTERFACE RULE...\n");
		return 2;
	}
	int in_ifindex = interface_index(argv[1]), out_ifindex = interface_index(argv[2]), count = argc - 3;
	struct rule *rules = calloc((size_t)count, sizeof *rules);
	if (!rules)
		die("calloc");
	for (int i = 0; i < count; i++)
		open_rule(&rules[i], argv[i + 3], in_ifindex, out_ifindex);
	if (count > 1)
		relay_many(rules, count);
	for (;;)
		relay_one(&rules[0]);
}
