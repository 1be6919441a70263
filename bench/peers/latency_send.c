/*
 * Sends numbered datagrams at a steady rate, each stamped with CLOCK_REALTIME just before its send.
 *
 * usage: latency_send INTERFACE GROUP:PORT SIZE RATE COUNT
 */
#include "common.h"

int main(int argc, char **argv)
{
	static char buffer[1 << 16];
	if (argc != 6) {
		fprintf(stderr, "usage: latency_send INTERFACE GROUP:PORT SIZE RATE COUNT\n");
		return 2;
	}
	int fd = open_output(interface_index(argv[1]), argv[2]);
	size_t size = (size_t)atoi(argv[3]);
	double step = 1e9 / atof(argv[4]), due = (double)now_ns(CLOCK_MONOTONIC);
	int64_t count = atoll(argv[5]), sent = 0;
	for (int64_t number = 0; number < count; number++) {
		int64_t planned = (int64_t)due, reached = wait_until(planned);
		due += step + (double)(reached - planned);
		int64_t stamp[2] = {now_ns(CLOCK_REALTIME), number};
		memcpy(buffer, stamp, sizeof stamp);
		sent += send(fd, buffer, size, 0) == (ssize_t)size;
	}
	printf("{\"sent\": %lld}\n", (long long)sent);
	return 0;
}
