/*
 * Takes what latency_send sent: latency is the kernel's receive timestamp less the sender's stamp.
 *
 * usage: latency_receive INTERFACE GROUP:PORT COUNT SKIP
 *
 * Prints "ready", then leaves everything in the socket's queue until its input ends, so that reading takes no time from
 * the relay or the sender; the first SKIP datagrams warm up and do not count.
 */
#include "common.h"

#define QUEUE_BYTES (1 << 30)

static int ascending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

/* Reads one datagram; false when the queue is empty. */
static bool take(int fd, int64_t *number, int64_t *latency_ns)
{
	int64_t stamp[2] = {0};
	char control[256];
	struct iovec part = {.iov_base = stamp, .iov_len = sizeof stamp};
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	if (recvmsg(fd, &message, MSG_DONTWAIT) < 0)
		return false;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		struct timespec at;
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_TIMESTAMPNS)
			continue;
		memcpy(&at, CMSG_DATA(c), sizeof at);
		*latency_ns = at.tv_sec * SECOND_NS + at.tv_nsec - stamp[0];
	}
	*number = stamp[1];
	return true;
}

static double at_share(const int64_t *sorted, int64_t count, double share)
{
	return count == 0 ? 0 : (double)sorted[(int64_t)((double)(count - 1) * share)] / 1e3;
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "usage: latency_receive INTERFACE GROUP:PORT COUNT SKIP\n");
		return 2;
	}
	int one = 1, fd = open_input(interface_index(argv[1]), argv[2], QUEUE_BYTES);
	int64_t most = atoll(argv[3]), skip = atoll(argv[4]), received = 0, kept = 0, number = 0, latency_ns = 0;
	int64_t *latencies = calloc((size_t)most + 1, sizeof *latencies);
	if (!latencies)
		die("calloc");
	check(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one), "SO_TIMESTAMPNS");
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF) {
	}
	while (received < most && take(fd, &number, &latency_ns)) {
		received++;
		if (number >= skip)
			latencies[kept++] = latency_ns;
	}
	qsort(latencies, (size_t)kept, sizeof *latencies, ascending);
	printf("{\"received\": %lld, \"p50_us\": %.2f, \"p99_us\": %.2f, \"max_us\": %.2f}\n", (long long)received,
	       at_share(latencies, kept, 0.5), at_share(latencies, kept, 0.99), at_share(latencies, kept, 1));
	return 0;
}
