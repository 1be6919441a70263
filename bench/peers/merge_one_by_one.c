/*
 * The reference merge: one recv, a look at the RTP sequence number, then one send of what is new; what a straightforward
 * merge of two feeds does. What is behind the newest number is a duplicate.
 *
 * usage: merge_one_by_one IN_INTERFACE OUT_INTERFACE GROUP:PORT GROUP:PORT OUTPUT_GROUP:PORT
 */
#include "common.h"
#include <sys/epoll.h>

#define FEEDS 2
#define RTP_HEADER_BYTES 12

static char buffer[1 << 16];
static uint16_t next_number;
static bool started;

static void merge_one(int input, int output)
{
	ssize_t size = recv(input, buffer, sizeof buffer, 0);
	if (size < RTP_HEADER_BYTES)
		return;
	uint16_t number;
	memcpy(&number, buffer + 2, sizeof number);
	number = ntohs(number);
	if (started && (int16_t)(number - next_number) < 0)
		return;
	started = true;
	next_number = (uint16_t)(number + 1);
	ssize_t sent = send(output, buffer, (size_t)size, 0);
	(void)sent;
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: merge_one_by_one IN_INTERFACE OUT_INTERFACE GROUP:PORT GROUP:PORT OUTPUT_GROUP:PORT\n");
		return 2;
	}
	int in_ifindex = interface_index(argv[1]), output = open_output(interface_index(argv[2]), argv[5]);
	int poll = epoll_create1(0);
	check(poll, "epoll_create1");
	for (int feed = 0; feed < FEEDS; feed++) {
		int input = open_input(in_ifindex, argv[3 + feed], BUFFER_BYTES);
		struct epoll_event event = {.events = EPOLLIN, .data.fd = input};
		check(epoll_ctl(poll, EPOLL_CTL_ADD, input, &event), "epoll_ctl");
	}
	for (;;) {
		struct epoll_event events[FEEDS];
		int ready = epoll_wait(poll, events, FEEDS, -1);
		for (int i = 0; i < ready; i++)
			merge_one(events[i].data.fd, output);
	}
}
